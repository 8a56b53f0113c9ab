{{/* What the operator is told (operator/finetune_operator/config.py): only what differs from its own defaults. */}}
{{- define "finetune-operator.env" -}}
{{- /* The image of the stages; a FineTuneJob may name another. */ -}}
- name: FINETUNE_TRAINER_IMAGE
  value: {{ include "finetune-operator.image" (list .Values.runs.image .) | quote }}
{{- with .Values.runs.storageClassName }}
- name: FINETUNE_STORAGE_CLASS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.runs.nodeSelector }}
{{- $pairs := list }}
{{- range $key, $value := . }}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) }}
{{- end }}
- name: FINETUNE_NODE_SELECTOR
  value: {{ join "," $pairs | quote }}
{{- end }}
{{- with .Values.runs.priorityClassName }}
- name: FINETUNE_PRIORITY_CLASS
  value: {{ . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.limits.gpusPerRun) }}
- name: FINETUNE_MAX_GPUS
  value: {{ int .Values.limits.gpusPerRun | quote }}
{{- end }}
{{- with .Values.limits.imageRegistries }}
- name: FINETUNE_IMAGE_REGISTRIES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.runs.hubEndpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if .Values.runs.allowCpu }}
- name: FINETUNE_ALLOW_CPU
  value: "true"
{{- end }}
{{- with .Values.watch.namespaces }}
- name: FINETUNE_WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- if ne .Values.operator.logFormat "text" }}
- name: FINETUNE_LOG_FORMAT
  value: {{ .Values.operator.logFormat | quote }}
{{- end }}
{{- if ne (int .Values.operator.workers) 32 }}
- name: FINETUNE_WORKERS
  value: {{ .Values.operator.workers | quote }}
{{- end }}
{{- end }}
