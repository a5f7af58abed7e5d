"""The durable spool: records on disk before they are anywhere else, until MongoDB has acknowledged them.

`frames` is the format, `disk` the system calls, `folder` what lies on disk and whose it is, `writer` and `syncer` the group
commit, `reader` what is still to be shipped, `drops` the exact counts of what found no room. Knows nothing of MongoDB.
"""
