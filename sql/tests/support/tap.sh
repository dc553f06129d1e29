# shellcheck shell=bash
# Test results as prove reads them. To be sourced.

tests=0

# result NAME STATUS WHAT-WAS-SEEN
result() {
  tests=$((tests + 1))
  if [[ $2 == 0 ]]; then
    echo "ok $tests - $1"
  else
    echo "not ok $tests - $1"
    # prove passes only standard error on.
    { echo "not ok $tests - $1"; echo "  ${3//$'\n'/$'\n'  }"; } >&2
  fi
}

# is SEEN EXPECTED NAME
is() {
  local status=0
  [[ $1 == "$2" ]] || status=1
  result "$3" $status "$1"$'\n'"instead of"$'\n'"$2"
}

# matches SEEN PATTERN NAME: a glob
matches() {
  local status=0
  # shellcheck disable=SC2053 # a pattern it is
  [[ $1 == $2 ]] || status=1
  result "$3" $status "$1"$'\n'"does not match"$'\n'"$2"
}

finish() { echo "1..$tests"; }

# sql STATEMENT [PSQL'S ARGUMENTS]: its rows, or its error
sql() { psql -XqAt -v ON_ERROR_STOP=1 "${@:2}" -c "$1" 2>&1; }

# until_is EXPECTED STATEMENT NAME: asks again for a while
until_is() {
  local seen
  for _ in {1..100}; do
    seen=$(sql "$2" "${@:4}")
    [[ $seen != "$1" ]] || break
    sleep 0.1
  done
  is "$seen" "$1" "$3"
}

# Installs the stand-in for the extension anew, without a role.
install_standin() { psql -Xq -v program="$UPLOAD" -v scratch="$SCRATCH" -f "$(dirname "$UPLOAD")/aws_s3.sql"; }
