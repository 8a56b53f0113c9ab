-- The failed stage goes on from its last checkpoint. A run that is also suspended does so on resume.
local os = require("os")
obj.spec.rerunToken = "retry-" .. os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
