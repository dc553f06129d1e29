#!/usr/bin/env bash
# The chart: lint, and what it renders under each kind of values.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=$(realpath -m "${PGEXPORT_STATE:-.state}")/bin/helm

"$helm" lint --strict charts/pgexport
render() { "$helm" template pgexport charts/pgexport --namespace pgexport-system "$@"; }
render >/dev/null
namespaced=$(render --set 'watchNamespaces={team-a,team-b}')
if grep -q 'kind: ClusterRoleBinding' <<<"$namespaced"; then echo "chart: watchNamespaces still binds a ClusterRole everywhere" >&2; exit 1; fi
for forbidden in secrets pods/exec pods/proxy; do
  if render | grep -E "^ *(- )?\"?$forbidden\"?$" >&2; then echo "chart: a role names $forbidden" >&2; exit 1; fi
done
if render --set image.nonsense=1 >/dev/null 2>&1; then echo "chart: an unknown value is taken" >&2; exit 1; fi
echo "chart: lint, both scopes, roles and schema are as they should be"
