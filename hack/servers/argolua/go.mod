// Argo CD's Lua interpreter for health and action scripts, in the versions that Argo CD 3.6 has.
module aigateway.local/servers/argolua

go 1.26.0

require (
	github.com/yuin/gopher-lua v1.1.2
	layeh.com/gopher-json v0.0.0-20190114024228-97fed8db8427
)
