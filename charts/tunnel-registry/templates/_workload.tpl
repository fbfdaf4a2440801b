{{/* What several parts are made of. `values` are those of the part. */}}

{{/* A probe. Takes {probe, handler}: the handler is that of the probe, or else this one. */}}
{{- define "tunnel-registry.probe" -}}
{{- $has := false -}}
{{- range list "httpGet" "exec" "tcpSocket" "grpc" -}}
{{- if hasKey $.probe . }}{{ $has = true }}{{ end -}}
{{- end -}}
{{- toYaml ($has | ternary .probe (merge (dict) .probe .handler)) -}}
{{- end -}}

{{/* The probes of a container. Takes {values, handlers: {livenessProbe: …, …}}; empty ones are left out. */}}
{{- define "tunnel-registry.probes" -}}
{{- range $name, $handler := .handlers }}
{{- with index $.values $name }}
{{ $name }}:
  {{- include "tunnel-registry.probe" (dict "probe" . "handler" $handler) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
A container of our own image, as the item of a list without its dash.
Takes {root, values, name, command, env, ports?, mounts?, probes?, restartPolicy?, lifecycle?};
env, ports and mounts are lists.
*/}}
{{- define "tunnel-registry.container" -}}
{{- $values := .root.Values -}}
{{- $live := dict "httpGet" (dict "path" "/livez" "port" "admin") -}}
{{- $ready := dict "httpGet" (dict "path" "/readyz" "port" "admin") -}}
{{- $handlers := dict "livenessProbe" $live "startupProbe" $live -}}
{{- if hasKey .values "readinessProbe" }}{{ $_ := set $handlers "readinessProbe" $ready }}{{ end -}}
{{- $admin := dict "name" "admin" "containerPort" $values.admin.port "protocol" "TCP" -}}
{{- $env := concat (list
  (dict "name" "TUNNEL_REGISTRY_ADMIN_LISTEN" "value" (printf "%s:%v" $values.admin.host $values.admin.port))
  (dict "name" "TUNNEL_REGISTRY_NAMESPACE" "value" .namespace)
  (dict "name" "TUNNEL_REGISTRY_WATCH_PODS" "value" (include "tunnel-registry.watchPods" .root))
  (dict "name" "TUNNEL_REGISTRY_LOG_LEVEL" "value" $values.log.level)
  (dict "name" "TUNNEL_REGISTRY_LOG_FORMAT" "value" $values.log.format)
) .env .values.extraEnv -}}
name: {{ .name }}
image: {{ include "tunnel-registry.image" (dict "image" $values.image "root" .root) }}
imagePullPolicy: {{ $values.image.pullPolicy }}
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
args:
  - {{ .command }}
  {{- with .values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- toYaml $env | nindent 2 }}
ports:
  {{- toYaml (prepend (.ports | default list) $admin) | nindent 2 }}
{{- include "tunnel-registry.probes" (dict "values" .values "handlers" $handlers) }}
{{- with .lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.securityContext | nindent 2 }}
{{- with concat (.mounts | default list) .values.extraVolumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The settings of a replica, shared or sidecar. Takes {listen}. */}}
{{- define "tunnel-registry.replicaEnv" -}}
- {name: TUNNEL_REGISTRY_STORE, value: kubernetes}
- {name: TUNNEL_REGISTRY_LISTEN, value: {{ .listen | quote }}}
- {name: TUNNEL_REGISTRY_POD_NAME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}
- {name: TUNNEL_REGISTRY_POD_NAMESPACE, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}}
- {name: TUNNEL_REGISTRY_POD_UID, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.uid}}}
- {name: TUNNEL_REGISTRY_POD_IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIPs}}}
{{- end -}}

{{/*
TLS of a listener, as YAML: {env, mounts, volumes}; empty without TLS. Takes {root, of,
prefix, folder}: whose it is, and how its variables and its folder are called.
*/}}
{{- define "tunnel-registry.tlsFiles" -}}
{{- $tls := (index .root.Values .of).tls -}}
{{- if $tls.enabled -}}
{{- $folder := printf "/etc/tunnel-registry/%s" .folder -}}
env:
  - {name: {{ .prefix }}_CERT, value: {{ $folder }}/tls.crt}
  - {name: {{ .prefix }}_KEY, value: {{ $folder }}/tls.key}
  {{- if $tls.clientCA }}
  - {name: {{ .prefix }}_CLIENT_CA, value: {{ $folder }}/ca.crt}
  {{- end }}
mounts:
  - {name: {{ .folder }}, mountPath: {{ $folder }}, readOnly: true}
volumes:
  - {name: {{ .folder }}, secret: {secretName: {{ include "tunnel-registry.tlsSecret" . }}, defaultMode: 288}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* A certificate of cert-manager, if there is to be one. Takes {root, part, of, name}: the Service's name is the certificate's. */}}
{{- define "tunnel-registry.certificate" -}}
{{- $tls := (index .root.Values .of).tls -}}
{{- if and $tls.enabled $tls.certManager.enabled (not $tls.existingSecret) -}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "tunnel-registry.metadata" (dict "root" .root "part" .part "name" .name) | nindent 2 }}
spec:
  secretName: {{ include "tunnel-registry.tlsSecret" . }}
  duration: {{ $tls.certManager.duration }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  issuerRef:
    {{- toYaml $tls.certManager.issuerRef | nindent 4 }}
  dnsNames:
    - {{ .name }}
    - {{ .name }}.{{ .root.Release.Namespace }}
    - {{ .name }}.{{ .root.Release.Namespace }}.svc
    {{- with $tls.certManager.dnsNames }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/*
A Deployment. Takes {root, part, values, account, automount, stopSeconds, containers,
initContainers?, volumes?, podLabels?, podAnnotations?, podSecurityContext?}; containers
and initContainers are text, volumes a list; stopSeconds is what a stop of our own
container takes at most.
*/}}
{{- define "tunnel-registry.deployment" -}}
{{- $stop := add (.values.preStopSeconds | default 0) .stopSeconds -}}
{{- if le (int .values.terminationGracePeriodSeconds) (int $stop) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds must be more than %v: what a stop takes, with preStopSeconds" .part $stop) -}}
{{- end -}}
{{- $selector := include "tunnel-registry.selectorLabels" (dict "root" .root "part" .part) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "tunnel-registry.metadata" (dict "root" .root "part" .part "labels" .values.labels "annotations" .values.annotations) | nindent 2 }}
spec:
  replicas: {{ .values.replicas }}
  {{- with .values.strategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $selector | nindent 8 }}
        {{- with merge (dict) (.podLabels | default dict) .values.podLabels .root.Values.commonLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with merge (dict) (.podAnnotations | default dict) .values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ .account }}
      automountServiceAccountToken: {{ .automount }}
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml (merge (dict) (.podSecurityContext | default dict) .root.Values.podSecurityContext) | nindent 8 }}
      terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
      {{- with .initContainers }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        {{- .containers | nindent 8 }}
      {{- with concat (.volumes | default list) .values.extraVolumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range . }}
        - {{ toYaml (merge (dict) . (dict "labelSelector" (dict "matchLabels" (fromYaml $selector)))) | nindent 10 | trim }}
        {{- end }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
{{- end -}}

{{/* Takes {root, part}. */}}
{{- define "tunnel-registry.serviceAccount" -}}
{{- $account := (index .root.Values .part).serviceAccount -}}
{{- if $account.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "tunnel-registry.metadata" (dict "root" .root "part" .part "name" (include "tunnel-registry.serviceAccountName" .) "annotations" $account.annotations) | nindent 2 }}
# Pods say themselves who of them needs a token.
automountServiceAccountToken: false
{{- end }}
{{- end -}}

{{/* Takes {root, part, values}. */}}
{{- define "tunnel-registry.podDisruptionBudget" -}}
{{- with .values.podDisruptionBudget }}
{{- if .enabled }}
{{- $has := dict "max" (not (kindIs "invalid" .maxUnavailable)) "min" (not (kindIs "invalid" .minAvailable)) }}
{{- if eq $has.max $has.min }}
{{- fail (printf "%s.podDisruptionBudget: set one of maxUnavailable and minAvailable, and the other to null" $.part) }}
{{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "tunnel-registry.metadata" (dict "root" $.root "part" $.part) | nindent 2 }}
spec:
  {{- if $has.max }}
  maxUnavailable: {{ .maxUnavailable }}
  {{- else }}
  minAvailable: {{ .minAvailable }}
  {{- end }}
  # One that is not ready anyway does not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "tunnel-registry.selectorLabels" (dict "root" $.root "part" $.part) | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The admin port of a part. Takes {root, part}. */}}
{{- define "tunnel-registry.adminService" -}}
---
apiVersion: v1
kind: Service
metadata:
  {{- $name := printf "%s-%s-admin" (include "tunnel-registry.fullname" .root) .part }}
  {{- include "tunnel-registry.metadata" (dict "root" .root "part" .part "name" $name "labels" (dict "tunnelregistry.io/port" "admin")) | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "tunnel-registry.selectorLabels" (dict "root" .root "part" .part) | nindent 4 }}
  ports:
    - {name: admin, port: {{ .root.Values.admin.port }}, targetPort: admin, protocol: TCP}
{{- end -}}

{{/* A Service for callers. Takes {root, part, name, values, port, protocol?, affinitySeconds?}; port is the container's, by name. */}}
{{- define "tunnel-registry.service" -}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "tunnel-registry.metadata" (dict "root" .root "part" .part "name" .name "labels" .values.labels "annotations" .values.annotations) | nindent 2 }}
spec:
  type: {{ .values.type }}
  {{- if ne .values.type "ClusterIP" }}
  externalTrafficPolicy: {{ .values.externalTrafficPolicy }}
  {{- end }}
  {{- if eq .values.type "LoadBalancer" }}
  {{- with .values.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- with .values.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .affinitySeconds }}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: {{ . }}}}
  {{- end }}
  selector:
    {{- include "tunnel-registry.selectorLabels" (dict "root" .root "part" .part) | nindent 4 }}
  ports:
    - name: {{ .port }}
      port: {{ .values.port }}
      targetPort: {{ .port }}
      protocol: TCP
      {{- with .protocol }}
      appProtocol: {{ . }}
      {{- end }}
      {{- if and .values.nodePort (ne .values.type "ClusterIP") }}
      nodePort: {{ .values.nodePort }}
      {{- end }}
{{- end -}}
