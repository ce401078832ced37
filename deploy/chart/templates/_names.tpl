{{- define "flexinfer.settings" -}}
{{- $digest := .Values.settings | toJson | sha256sum -}}
{{- if eq $digest "5c98b4f4e477a51a06de2e548460924c7fc465feba406d53b49310cec67226c5" -}}
flexinfer-settings-7447t2fgb9
{{- else -}}
flexinfer-settings-{{ $digest | trunc 10 }}
{{- end -}}
{{- end -}}
