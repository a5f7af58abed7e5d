-- Makes the backend that the parameter names the live one; without a parameter the one after the live one.
-- Argo CD before 3.1 knows no parameters, so there actionParams is nil.
local backends = obj.spec.backends or {}
local wanted = nil
if actionParams ~= nil then
  wanted = actionParams["backend"]
end

local names = {}
local following = nil
local found = false
for position, backend in ipairs(backends) do
  names[position] = backend.name
  if backend.name == obj.spec.current then
    following = (backends[position + 1] or backends[1]).name
  end
  if backend.name == wanted then
    found = true
  end
end
if wanted == nil or wanted == "" then
  wanted = following
  found = following ~= nil
end
if not found then
  error("There is no backend '" .. tostring(wanted) .. "'; there are: " .. table.concat(names, ", "), 0)
end

obj.spec.current = wanted
return obj
