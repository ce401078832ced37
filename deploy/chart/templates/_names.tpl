{{- define "flexinfer.settings" -}}
{{- $digest := .Values.settings | toJson | sha256sum -}}
{{- if eq $digest "fab78c8026e858f9abf2c66b74c220045fdb23a9e7ba7d41ccc33ca993c74dfa" -}}
flexinfer-settings-t59dd7m7gf
{{- else -}}
flexinfer-settings-{{ $digest | trunc 10 }}
{{- end -}}
{{- end -}}
