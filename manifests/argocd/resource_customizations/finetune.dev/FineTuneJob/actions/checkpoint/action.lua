-- Training saves a checkpoint and goes on. What is in Git has no such annotation, so a sync keeps it.
local os = require("os")
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["finetune.dev/checkpoint-requested-at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
