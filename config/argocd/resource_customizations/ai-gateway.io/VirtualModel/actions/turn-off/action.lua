-- Callers get 404 until it is turned on again; everything else stays as it is.
obj.spec.use = false
return obj
