-- What can be done to a VirtualModel. An action that would change nothing is disabled.
local on = obj.spec.use == true
local backends = obj.spec.backends or {}

-- What an empty parameter means: the backend after the live one.
local following = ""
for position, backend in ipairs(backends) do
  if backend.name == obj.spec.current then
    following = (backends[position + 1] or backends[1]).name
  end
end

local actions = {}
actions["switch-backend"] = {
  ["disabled"] = #backends < 2,
  ["displayName"] = "Switch backend (empty: " .. following .. ")",
  ["iconClass"] = "fa fa-fw fa-random",
  ["params"] = {{["name"] = "backend"}}
}
actions["turn-on"] = {
  ["disabled"] = on,
  ["displayName"] = "Turn on",
  ["iconClass"] = "fa fa-fw fa-play-circle"
}
actions["turn-off"] = {
  ["disabled"] = not on,
  ["displayName"] = "Turn off",
  ["iconClass"] = "fa fa-fw fa-pause-circle"
}
return actions
