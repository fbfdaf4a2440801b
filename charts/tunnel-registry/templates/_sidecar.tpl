{{/*
The replica beside a gost: a native sidecar, so that it is up before gost and stops
after it. For the pods of this chart, and for those of a chart of yours that has this
one as a dependency (README.md, "In a chart of yours"):

    spec:
      serviceAccountName: {{ include "tunnel-registry.sidecar.serviceAccountName" $registry }}
      automountServiceAccountToken: false
      initContainers:
        - {{- include "tunnel-registry.sidecar" $registry | nindent 10 }}
      volumes:
        {{- include "tunnel-registry.sidecar.volumes" $registry | nindent 8 }}

and in the pod's labels:

        {{- include "tunnel-registry.sidecar.labels" $registry | nindent 8 }}

with $registry := index .Subcharts "tunnel-registry".
*/}}

{{/* The container, as the item of initContainers without its dash. */}}
{{- define "tunnel-registry.sidecar" -}}
{{- $namespace := default .Release.Namespace .Values.sidecar.registry.namespace -}}
{{- $env := fromYamlArray (include "tunnel-registry.replicaEnv" (dict "listen" (printf "127.0.0.1:%v" .Values.sidecar.port))) -}}
{{- $mounts := list (dict "name" "tunnel-registry-account" "mountPath" "/var/run/secrets/kubernetes.io/serviceaccount" "readOnly" true) -}}
{{- include "tunnel-registry.container" (dict "root" . "values" .Values.sidecar "name" "tunnel-registry" "command" "serve" "namespace" $namespace "env" $env "mounts" $mounts "restartPolicy" "Always") -}}
{{- end -}}

{{/* What it mounts: the token is for the sidecar alone, gost does not get one. */}}
{{- define "tunnel-registry.sidecar.volumes" -}}
- name: tunnel-registry-account
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
{{- end -}}

{{/* By which the PodMonitor finds the pod. */}}
{{- define "tunnel-registry.sidecar.labels" -}}
tunnelregistry.io/sidecar: {{ default (include "tunnel-registry.fullname" .) .Values.sidecar.registry.name }}
{{- end -}}

{{/* Whose token that is. */}}
{{- define "tunnel-registry.sidecar.serviceAccountName" -}}
{{ include "tunnel-registry.serviceAccountName" (dict "root" . "part" "sidecar") }}
{{- end -}}
