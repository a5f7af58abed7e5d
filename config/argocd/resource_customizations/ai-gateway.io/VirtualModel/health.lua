-- Health of a VirtualModel of ai-gateway.io. Its status is in kstatus format (observedGeneration, condition Ready).
-- What each condition means: docs/status.md; what each health state means: docs/gitops.md.
local health = {status = "Progressing", message = ""}

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Is being deleted."
  return health
end

local generation = obj.metadata.generation or 0
local seen = nil
local conditions = {}
if obj.status ~= nil then
  seen = obj.status.observedGeneration
  for _, condition in ipairs(obj.status.conditions or {}) do
    conditions[condition.type] = condition
  end
end

-- The default status of a new object says Ready=Unknown and has no observedGeneration.
local ready = conditions["Ready"]
if ready == nil or seen == nil then
  health.message = "The operator has not judged it yet."
  return health
end
if seen < generation then
  health.message = "The operator has judged generation " .. tostring(seen) .. " of " .. tostring(generation) .. "."
  return health
end
if ready.status == "Unknown" then
  health.message = ready.message
  return health
end

if ready.status ~= "True" then
  health.status = "Degraded"
  health.message = ready.reason .. ": " .. (ready.message or "")
  -- Whoever mends it should know that callers are still served.
  local programmed = conditions["Programmed"]
  if programmed ~= nil and programmed.reason == "KeptLastGood" and ready.reason ~= "KeptLastGood" then
    health.message = health.message .. " " .. programmed.message
  end
  return health
end

-- Switched off is a wish that was carried out: Suspended would hold up sync waves.
health.status = "Healthy"
local name = obj.status.modelName or obj.metadata.name
if not obj.spec.use then
  health.message = "Switched off: callers of '" .. name .. "' get 404."
  return health
end
health.message = "Served as '" .. name .. "' by backend '" .. obj.spec.current .. "'."
local reachable = conditions["BackendsReachable"]
if reachable ~= nil and reachable.status == "False" then
  health.message = health.message .. " " .. reachable.reason .. ": " .. (reachable.message or "")
end
return health
