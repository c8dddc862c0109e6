{{- define "bitlane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Names of objects: the release's, with the chart's where it is not in there already. */}}
{{- define "bitlane.fullname" -}}
{{- $name := include "bitlane.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bitlane.selector" -}}
app.kubernetes.io/name: {{ include "bitlane.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bitlane.labels" -}}
{{ include "bitlane.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "bitlane.tag" -}}
{{- default .Chart.AppVersion .Values.image.tag -}}
{{- end -}}

{{/* A pool with what it leaves out. Takes a list: the root, the pool. */}}
{{- define "bitlane.pool" -}}
{{- $root := index . 0 -}}
{{- mergeOverwrite (deepCopy $root.Values.poolDefaults) (index . 1) | toYaml -}}
{{- end -}}

{{/* What every pod says: non-root, no rights, no way to the API server. */}}
{{- define "bitlane.podSecurity" -}}
serviceAccountName: {{ include "bitlane.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "bitlane.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* How a role reaches the broker. Takes a list: the root, the role in lower case. */}}
{{- define "bitlane.brokerEnv" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $prefix := printf "BITLANE_%s_BROKER" (upper $role) -}}
{{- $broker := $root.Values.broker -}}
{{- $url := required "broker.url: where Redis or Valkey is, such as rediss://redis.example.org:6379/0" $broker.url -}}
- name: {{ $prefix }}_URL
  value: {{ ternary (regexReplaceAll "^(rediss?)://" $url (printf "${1}://%s@" $role)) $url (ne $broker.passwordSecret "") | quote }}
- name: {{ $prefix }}_SHARDS
  value: {{ $broker.shards | quote }}
- name: {{ $prefix }}_TIMEOUT_S
  value: {{ $broker.timeoutSeconds | quote }}
{{- if $broker.passwordSecret }}
- name: {{ $prefix }}_PASSWORD_FILE
  value: /run/secrets/broker/{{ $role }}-password
{{- end }}
{{- if $broker.tls.secret }}
- name: {{ $prefix }}_TLS_CA_FILE
  value: /run/secrets/broker-tls/ca.crt
{{- if $broker.tls.clientCertificate }}
- name: {{ $prefix }}_TLS_CERTIFICATE_FILE
  value: /run/secrets/broker-tls/tls.crt
- name: {{ $prefix }}_TLS_KEY_FILE
  value: /run/secrets/broker-tls/tls.key
{{- end }}
{{- end }}
- name: BITLANE_{{ upper $role }}_RESUME_WINDOW_S
  value: {{ $root.Values.router.resumeWindowSeconds | quote }}
{{- end -}}

{{- define "bitlane.brokerMounts" -}}
{{- if (index . 0).Values.broker.passwordSecret }}
- name: broker-password
  mountPath: /run/secrets/broker
  readOnly: true
{{- end }}
{{- if (index . 0).Values.broker.tls.secret }}
- name: broker-tls
  mountPath: /run/secrets/broker-tls
  readOnly: true
{{- end }}
{{- end -}}

{{/* Each role sees its own password only. */}}
{{- define "bitlane.brokerVolumes" -}}
{{- $broker := (index . 0).Values.broker -}}
{{- $role := index . 1 -}}
{{- with $broker.passwordSecret }}
- name: broker-password
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $role }}-password, path: {{ $role }}-password}]
{{- end }}
{{- with $broker.tls.secret }}
- name: broker-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* Metrics are scraped from every pod; traces go to a receiver. */}}
{{- define "bitlane.telemetryEnv" -}}
- name: OTEL_METRICS_EXPORTER
  value: prometheus
- name: OTEL_EXPORTER_PROMETHEUS_HOST
  value: 0.0.0.0
- name: OTEL_EXPORTER_PROMETHEUS_PORT
  value: "9464"
{{- if .Values.telemetry.tracesEndpoint }}
- name: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  value: {{ .Values.telemetry.tracesEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .Values.telemetry.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .Values.telemetry.samplerRatio | quote }}
{{- else }}
- name: OTEL_TRACES_EXPORTER
  value: none
{{- end }}
{{- end -}}

{{- define "bitlane.extraEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "bitlane.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
