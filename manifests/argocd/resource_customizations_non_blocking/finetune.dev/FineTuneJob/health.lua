-- Health of a FineTuneJob; a run that goes on or is suspended is Healthy, so no sync waits for it.
-- Generated from resource_customizations by `make argocd`. Do not edit.
-- The conditions follow kstatus; they are set in operator/finetune_operator/core/conditions.py.

local function is_true(conditions, kind)
  for _, condition in ipairs(conditions or {}) do
    if condition.type == kind and condition.status == "True" then
      return true
    end
  end
  return false
end

local function time_left(seconds)
  local minutes = (seconds - seconds % 60) / 60
  if minutes < 1 then
    return "less than a minute left"
  end
  local hours = (minutes - minutes % 60) / 60
  if hours < 1 then
    return "about " .. minutes .. " min left"
  end
  return "about " .. hours .. " h " .. minutes % 60 .. " min left"
end

-- "Training, 42%, step 84/200, about 21 min left: train runs as Job demo-train-1."
local function told(status)
  local text = status.phase or "Pending"
  local progress = status.progress
  if text == "Training" and progress ~= nil then
    if progress.display ~= nil and progress.display.percent ~= nil then
      text = text .. ", " .. progress.display.percent
    end
    if progress.display ~= nil and progress.display.step ~= nil then
      text = text .. ", step " .. progress.display.step
    end
    if progress.etaSeconds ~= nil then
      text = text .. ", " .. time_left(progress.etaSeconds)
    end
  end
  if status.message ~= nil then
    text = text .. ": " .. status.message
  end
  return text
end

local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waits for the FineTune operator to look at it; does the operator run?"}
end
if is_true(status.conditions, "Failed") or is_true(status.conditions, "Stalled") then
  return {status = "Degraded", message = status.message}
end
if is_true(status.conditions, "Succeeded") then
  return {status = "Healthy", message = status.message}
end
if is_true(status.conditions, "Suspended") then
  return {status = "Healthy", message = status.message}
end
return {status = "Healthy", message = told(status)}
