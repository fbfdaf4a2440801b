{{/* What the shared replicas have for proxy sessions, and what the controller is told. */}}

{{/* The names of Services: they end the same way wherever they are named. */}}
{{- define "tunnel-registry.sessions.name" -}}
{{ include "tunnel-registry.fullname" . }}-sessions
{{- end -}}
{{- define "tunnel-registry.maintenance.name" -}}
{{ include "tunnel-registry.fullname" . }}-maintenance
{{- end -}}

{{/* What does not go together, in words. */}}
{{- define "tunnel-registry.sessions.check" -}}
{{- $values := .Values.sessions -}}
{{- if not .Values.plugin.enabled -}}
{{- fail "sessions.enabled needs plugin.enabled: the shared replicas take the sessions" -}}
{{- end -}}
{{- if and $values.gateways (not .Values.controller.enabled) -}}
{{- fail "sessions.gateways needs controller.enabled: the controller makes the HTTPRoutes" -}}
{{- end -}}
{{- $ports := list $values.port .Values.plugin.port .Values.admin.port -}}
{{- if $values.maintenance.enabled }}{{ $ports = append $ports $values.maintenance.port }}{{ end -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- fail "sessions.port, sessions.maintenance.port, plugin.port and admin.port must differ: they are of one pod" -}}
{{- end -}}
{{- if and $values.policy.rules $values.policy.existingConfigMap.name -}}
{{- fail "sessions.policy: set rules or existingConfigMap, not both" -}}
{{- end -}}
{{- if and $values.tls.clientCA (not $values.tls.enabled) -}}
{{- fail "sessions.tls.clientCA needs sessions.tls.enabled: without TLS nobody shows a certificate" -}}
{{- end -}}
{{- range $values.policy.rules -}}
{{- if and .certificates (not $values.tls.clientCA) -}}
{{- fail "sessions.policy.rules: a rule with certificates needs sessions.tls.clientCA" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap with the policy; empty without one. */}}
{{- define "tunnel-registry.sessions.policy" -}}
{{- $policy := .Values.sessions.policy -}}
{{- if $policy.existingConfigMap.name -}}
{{ $policy.existingConfigMap.name }}
{{- else if $policy.rules -}}
{{ include "tunnel-registry.fullname" . }}-session-policy
{{- end -}}
{{- end -}}

{{/* What it adds to a shared replica, as YAML: {env, ports, mounts, volumes}. */}}
{{- define "tunnel-registry.sessions.replica" -}}
{{- $values := .Values.sessions -}}
{{- include "tunnel-registry.sessions.check" . -}}
env:
  - {name: TUNNEL_REGISTRY_SESSION_LISTEN, value: {{ printf "%s:%v" .Values.admin.host $values.port | quote }}}
  - {name: TUNNEL_REGISTRY_SESSION_GRACE, value: {{ $values.grace }}}
  - {name: TUNNEL_REGISTRY_SESSION_MAX_SESSIONS, value: {{ int64 $values.limits.sessions | quote }}}
  - {name: TUNNEL_REGISTRY_SESSION_MAX_CONNECTIONS, value: {{ int64 $values.limits.connections | quote }}}
  - {name: TUNNEL_REGISTRY_SESSION_MAX_CONNECTIONS_PER_ADDRESS, value: {{ int64 $values.limits.connectionsPerAddress | quote }}}
  {{- if $values.maintenance.enabled }}
  - {name: TUNNEL_REGISTRY_MAINTENANCE_LISTEN, value: {{ printf "%s:%v" .Values.admin.host $values.maintenance.port | quote }}}
  - {name: TUNNEL_REGISTRY_MAINTENANCE_URL, value: "http://{{ include "tunnel-registry.maintenance.name" . }}.{{ .Release.Namespace }}:{{ $values.maintenance.service.port }}"}
  {{- end }}
  {{- if include "tunnel-registry.sessions.policy" . }}
  - {name: TUNNEL_REGISTRY_SESSION_POLICY_FILE, value: /etc/tunnel-registry/session-policy/{{ $values.policy.existingConfigMap.name | empty | ternary "policy.yaml" $values.policy.existingConfigMap.key }}}
  {{- end }}
ports:
  - {name: sessions, containerPort: {{ $values.port }}, protocol: TCP}
  {{- if $values.maintenance.enabled }}
  - {name: maintenance, containerPort: {{ $values.maintenance.port }}, protocol: TCP}
  {{- end }}
{{- with include "tunnel-registry.sessions.policy" . }}
mounts:
  - {name: session-policy, mountPath: /etc/tunnel-registry/session-policy, readOnly: true}
volumes:
  - {name: session-policy, configMap: {name: {{ . }}, defaultMode: 288}}
{{- end }}
{{- end -}}

{{/* What the controller is told, as a YAML list of variables. */}}
{{- define "tunnel-registry.sessions.controllerEnv" -}}
{{- $values := .Values.sessions -}}
{{- if and $values.enabled $values.gateways -}}
{{- $gateways := list -}}
{{- range $values.gateways -}}
{{- $name := printf "%s/%s" (default $.Release.Namespace .namespace) .name -}}
{{- $gateways = append $gateways (.sectionName | empty | ternary $name (printf "%s/%s" $name .sectionName)) -}}
{{- end -}}
- {name: TUNNEL_REGISTRY_GATEWAY, value: {{ join "," $gateways | quote }}}
{{- if $values.maintenance.enabled }}
- {name: TUNNEL_REGISTRY_MAINTENANCE_SERVICE, value: "{{ include "tunnel-registry.maintenance.name" . }}:{{ $values.maintenance.service.port }}"}
{{- end }}
{{- else -}}
[]
{{- end -}}
{{- end -}}
