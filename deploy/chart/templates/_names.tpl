{{- define "flexinfer.settings" -}}
{{- $digest := .Values.settings | toJson | sha256sum -}}
{{- if eq $digest "98316e3c7f330c46992af1636b5624a4073562fb09dd0f0e9619b413e3bbfd90" -}}
flexinfer-settings-mm82bh6kt6
{{- else -}}
flexinfer-settings-{{ $digest | trunc 10 }}
{{- end -}}
{{- end -}}
