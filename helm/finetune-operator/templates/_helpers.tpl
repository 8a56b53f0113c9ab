{{/*
Names are fixed: the operator finds its Service and its certificate by name, so a namespace holds one.
*/}}
{{- define "finetune-operator.name" -}}finetune-operator{{- end }}

{{/* What selects the operator's pod. */}}
{{- define "finetune-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "finetune-operator.name" . }}
{{- end }}

{{/* What selects the pods that train. */}}
{{- define "finetune-operator.trainingLabels" -}}
app.kubernetes.io/managed-by: finetune-operator
finetune.dev/stage: train
{{- end }}

{{/* Labels of every object. */}}
{{- define "finetune-operator.labels" -}}
{{ include "finetune-operator.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's reference: (list IMAGE ROOT). */}}
{{- define "finetune-operator.image" -}}
{{- $image := index . 0 }}
{{- $root := index . 1 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "finetune-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ .Values.serviceAccount.name }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The rights in each namespace that is served: the least that works (manifests/base/rbac.yaml). */}}
{{- define "finetune-operator.rules" -}}
- apiGroups: [finetune.dev]
  resources: [finetunejobs]
  verbs: [list, watch]
- apiGroups: [finetune.dev]
  resources: [finetunejobs/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion ask for this where the admission plug-in
# OwnerReferencesPermissionEnforcement is on, as it is on OpenShift. No finalizer is ever set.
- apiGroups: [finetune.dev]
  resources: [finetunejobs/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, create]
# A workspace that was too small grows.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, patch]
# Why a pod ended or does not start, and whose progress report it is.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
# A missing Secret or an exceeded quota is told by an event only.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}

{{/* Whose progress report it is: tokens belong to no namespace. */}}
{{- define "finetune-operator.tokenRules" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- end }}
