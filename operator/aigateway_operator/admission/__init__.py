"""The webhook role: AdmissionReviews in, verdicts out, over TLS.

It imports neither kopf nor kubernetes nor any room that does (an import-linter contract holds that), so that a replica starts
fast and stays small. `main` joins it to where its certificate comes from.
"""
