-- What a person may ask of a FineTuneJob in its present state. A finished run can only be trained
-- anew, which costs all of it again: that is done in Git, by spec.rerunToken, and not by a click.

local function is_true(kind)
  for _, condition in ipairs((obj.status or {}).conditions or {}) do
    if condition.type == kind and condition.status == "True" then
      return true
    end
  end
  return false
end

-- A rerunToken that comes from Git would come back with the next sync, and that asks for another
-- run: it is changed in Git. Server-side apply says so, and the name of what syncs.
local function token_is_from_git()
  for _, entry in ipairs(obj.metadata.managedFields or {}) do
    local owned = ((entry.fieldsV1 or {})["f:spec"] or {})["f:rerunToken"] ~= nil
    if owned and (entry.operation == "Apply" or entry.manager == "argocd-controller") then
      return true
    end
  end
  return false
end

local actions = {}
if is_true("Succeeded") then
  return actions
end
if is_true("Failed") then
  actions["retry"] = {
    ["displayName"] = "Retry",
    ["iconClass"] = "fa fa-fw fa-redo",
    ["disabled"] = token_is_from_git(),
  }
end
if obj.spec.suspend then
  actions["resume"] = {
    ["displayName"] = "Resume",
    ["iconClass"] = "fa fa-fw fa-play",
  }
elseif not is_true("Failed") then
  if (obj.status or {}).phase == "Training" then
    actions["checkpoint"] = {
      ["displayName"] = "Save a checkpoint",
      ["iconClass"] = "fa fa-fw fa-save",
    }
  end
  actions["suspend"] = {
    ["displayName"] = "Stop and save (suspend)",
    ["iconClass"] = "fa fa-fw fa-pause",
  }
end
return actions
