-- Callers are served again, by the live backend.
obj.spec.use = true
return obj
