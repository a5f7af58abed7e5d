-- Health of a GatewayConfig of ai-gateway.io. Its status is in kstatus format (observedGeneration, condition Ready).
-- Beside Ready it heeds Propagated: whether every ready pod runs what was written. Datastores never decide.
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
  local programmed = conditions["Programmed"]
  if programmed ~= nil and programmed.reason == "KeptLastGood" and ready.reason ~= "KeptLastGood" then
    health.message = health.message .. " " .. programmed.message
  end
  return health
end

local propagated = conditions["Propagated"]
local why = ""
if propagated ~= nil then
  why = propagated.message or ""
  if propagated.reason == "Progressing" then
    health.message = why
    return health
  end
  -- A pod that runs something else, or cannot be asked although it is ready. No pods and no selector are no failure:
  -- pods may come in a later wave.
  if propagated.reason == "Stragglers" or propagated.reason == "Unreachable" then
    health.status = "Degraded"
    health.message = propagated.reason .. ": " .. why
    return health
  end
end

health.status = "Healthy"
health.message = "Revision " .. tostring(obj.status.revision or 0) .. ". " .. why
local stores = conditions["DatastoresReady"]
if stores ~= nil and stores.status == "False" then
  health.message = health.message .. " Datastores: " .. (stores.message or "")
end
return health
