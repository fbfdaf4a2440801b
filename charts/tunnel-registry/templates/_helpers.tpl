{{/* Names, labels and images. A "part" is controller, plugin, sidecar or gost. */}}

{{/* Short enough that what is appended stays below 63 characters. */}}
{{- define "tunnel-registry.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $usual := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $usual .Values.fullnameOverride | trunc 46 | trimSuffix "-" | trimSuffix "." -}}
{{- end -}}

{{/* What is cluster-scoped, or compared across the cluster: no two releases share it. */}}
{{- define "tunnel-registry.clusterName" -}}
{{ .Release.Namespace }}.{{ include "tunnel-registry.fullname" . }}
{{- end -}}

{{/* Takes {root, part}. */}}
{{- define "tunnel-registry.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Takes {root, part?, name?, labels?, annotations?, cluster?}. The name is FULLNAME-PART unless given. */}}
{{- define "tunnel-registry.metadata" -}}
name: {{ .name | default (printf "%s-%s" (include "tunnel-registry.fullname" .root) .part) }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "tunnel-registry.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
  {{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes {image, root}. */}}
{{- define "tunnel-registry.image" -}}
{{- $name := .image.registry | empty | ternary .image.repository (printf "%s/%s" .image.registry .image.repository) -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* Takes {root, part}. */}}
{{- define "tunnel-registry.serviceAccountName" -}}
{{- $account := (index .root.Values .part).serviceAccount -}}
{{- $made := $account.create | ternary (printf "%s-%s" (include "tunnel-registry.fullname" .root) .part) "default" -}}
{{ default $made $account.name }}
{{- end -}}

{{/* The accounts of pods with a sidecar, as a YAML list of {namespace, name}. */}}
{{- define "tunnel-registry.sidecarAccounts" -}}
{{- $accounts := list -}}
{{- if or .Values.sidecar.serviceAccount.create .Values.sidecar.serviceAccount.name -}}
{{- $own := include "tunnel-registry.serviceAccountName" (dict "root" . "part" "sidecar") -}}
{{- $accounts = append $accounts (dict "namespace" .Release.Namespace "name" $own) -}}
{{- end -}}
{{- range .Values.sidecar.serviceAccounts -}}
{{- $namespace := default $.Release.Namespace .namespace -}}
{{- if and (ne $namespace $.Release.Namespace) (not $.Values.clusterWide) -}}
{{- fail (printf "sidecar.serviceAccounts: %s/%s is in another namespace than the release; set clusterWide: true" $namespace .name) -}}
{{- end -}}
{{- $accounts = append $accounts (dict "namespace" $namespace "name" .name) -}}
{{- end -}}
{{- toYaml ($accounts | uniq) -}}
{{- end -}}

{{/* Whose pods are watched, as --watch-pods says it. */}}
{{- define "tunnel-registry.watchPods" -}}
{{- if not .Values.pods.watch }}off{{ else if .Values.clusterWide }}all{{ else }}own{{ end -}}
{{- end -}}

{{/* The Secret with the plugin's tokens. */}}
{{- define "tunnel-registry.tokenSecret" -}}
{{- default (printf "%s-plugin-token" (include "tunnel-registry.fullname" .)) .Values.plugin.auth.existingSecret -}}
{{- end -}}

{{/* The Secret with a certificate. Takes {root, of}: those of `plugin` or `sessions`. */}}
{{- define "tunnel-registry.tlsSecret" -}}
{{- $tls := (index .root.Values .of).tls -}}
{{- if $tls.existingSecret -}}
{{- $tls.existingSecret -}}
{{- else if $tls.certManager.enabled -}}
{{- include "tunnel-registry.fullname" .root }}-{{ .of }}-tls
{{- else -}}
{{- fail (printf "%s.tls.enabled needs %s.tls.existingSecret or %s.tls.certManager.enabled" .of .of .of) -}}
{{- end -}}
{{- end -}}
