{{- define "pgexport.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "pgexport.fullname" -}}
{{- $name := include "pgexport.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pgexport.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pgexport.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- /* Not managed-by: that value, on a Job or a pod, says that the controller made it. */ -}}
{{- define "pgexport.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "pgexport.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "pgexport.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pgexport.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* What the controller gives worker pods where an ExportJob does not say, as its podTemplate would. */ -}}
{{- define "pgexport.workerDefaults" -}}
{{- $defaults := dict }}
{{- range $field := list "resources" "nodeSelector" "tolerations" }}
{{- with index $.Values.worker $field }}
{{- $_ := set $defaults $field . }}
{{- end }}
{{- end }}
{{- toJson $defaults }}
{{- end }}

{{- define "pgexport.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}

{{- /* What the controller may do. It has no right to any Secret, to enter a pod, or to reach one through the API server. */ -}}
{{- define "pgexport.rules" -}}
- apiGroups: [pgexport.dev]
  resources: [exportjobs, exportschedules, exportsources, exportsinks]
  verbs: [get, list, watch]
# The runs of ExportSchedules; the finalizer of ExportJobs that may have left something to clean up.
- apiGroups: [pgexport.dev]
  resources: [exportjobs]
  verbs: [create, patch, delete]
- apiGroups: [pgexport.dev]
  resources: [exportjobs/status, exportschedules/status, exportsources/status, exportsinks/status]
  verbs: [update]
# To own ExportJobs and Jobs with blockOwnerDeletion, where the cluster asks for it.
- apiGroups: [pgexport.dev]
  resources: [exportjobs/finalizers, exportschedules/finalizers, exportsources/finalizers, exportsinks/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [batch]
  resources: [jobs/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Whether a namespace is being deleted: Kubernetes makes no pods there any more, and does not say so to their Job.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# The orders of Jobs. Others' ConfigMaps cannot be listed.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create]
# Why a pod does not start is found in Events only.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
