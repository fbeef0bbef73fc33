# One container's part of a lease. Read by `sh -s`, after `set -- VERB KEY OWNER SECONDS FOLDERS COMMAND...`, where a
# COMMAND is `KIND STRICT LIMIT COUNT WORD...`.
#
# A watch, detached from whoever asked, claims the container, runs `pre`, waits for the end of the lease or for `stop`,
# and runs `post`. Everybody else writes a wish down and waits until the watch has seen it: two beats later.
# All that is known lies in files of a folder of the container:
#   lease          who holds it, while a watch is at work
#   o.OWNER/until  when the lease ends, in seconds since the node started: no clock is set
#   o.OWNER/stop   it is to end or has ended, and is never taken again
#   o.OWNER/state  taking, held, ended, failed COMMAND CODE, stuck COMMAND CODE
#   o.OWNER/beat   grows while the watch is alive
exec 2>/dev/null
umask 077
set -f
verb=$1 key=$2 me=$3 seconds=$4 folders=$5
shift 5
say() { echo "kurator $*"; exit 0; }
nap() { sleep 0.2 || sleep 1; }
now() { read -r up rest </proc/uptime && up=${up%%.*} && [ "$up" -ge 0 ]; }
word() { w=; read -r w <"$1"; }
put() { echo "$2" >"$1.$$" && mv -f "$1.$$" "$1"; }
beat() { n=$((n + 1)); echo "$n" >"$own/beat"; }

# Two beats of an owner, or the end of the lease: 0. Nothing for five seconds: 1.
beats() {
  now; patience=$((up + 5)); word "$home/o.$1/beat"; was=$w
  while [ -e "$home/lease" ]; do
    word "$home/o.$1/beat"
    if [ -z "$was" ]; then was=$w; fi
    if [ -n "$w" ] && [ "$w" -ge $((was + 2)) ]; then return 0; fi
    now
    if [ "$up" -ge "$patience" ]; then return 1; fi
    nap
  done
}

# Whether a watch must let go.
over() {
  if [ -n "$ended" ] || [ -e "$own/stop" ]; then return 0; fi
  word "$home/lease"
  if [ "$w" != "$me" ]; then return 0; fi
  word "$own/until"; now
  [ "$up" -ge "${w:-0}" ]
}

# Runs a command for so many seconds at most; 124 if it was killed.
bounded() {
  now; last=$((up + $1)); shift
  if command -v setsid >/dev/null; then setsid "$@" </dev/null >/dev/null & else "$@" </dev/null >/dev/null & fi
  child=$!
  while kill -0 "$child"; do
    beat; now
    if [ "$up" -ge "$last" ] || { [ "$kind" = pre ] && over; }; then
      kill -TERM "-$child" || kill -TERM "$child"
      nap; nap; nap
      kill -KILL "-$child" || kill -KILL "$child"
      wait "$child"
      return 124
    fi
    nap
  done
  wait "$child"
}

# Runs the commands of a kind in their order. `pre` ends at the first that fails, `post` never.
each() {
  kind=$1 command=0 failure=
  shift
  while [ $# -gt 0 ]; do
    if [ "$1" = "$kind" ]; then
      strict=$2 limit=$3 count=$4 words=
      shift 4
      i=0
      while [ "$i" -lt "$count" ]; do i=$((i + 1)); words="$words \"\${$i}\""; done
      eval "bounded $limit $words"
      code=$?
      if [ "$code" -ne 0 ] && [ "$strict" = 1 ] && [ -z "$failure" ]; then failure="$command $code"; fi
      if [ "$kind" = pre ] && { [ -n "$failure" ] || over; }; then return 1; fi
    else
      count=$4
      shift 4
    fi
    shift "$count"
    command=$((command + 1))
  done
  [ -z "$failure" ]
}

# Tries more often where nobody may come to ask for it again.
thaw() {
  round=0
  until each post "$@"; do
    round=$((round + 1))
    if [ "$mode" = thaw ] || [ "$round" -ge 5 ]; then return 1; fi
    beat; nap; beat; nap; beat; nap; beat; nap; beat; nap
  done
}

# The end of a watch: what it says is there before the lease is gone.
finish() {
  thaw "$@" || outcome="stuck $failure"
  put "$own/state" "$outcome"
  rm -f "$own/until"
  rm -f "$home/lease"
  exit
}

watch() {
  trap '' HUP INT
  ended= outcome=ended mode=$1
  trap 'ended=1' TERM
  shift
  (set -C; echo "$me" >"$home/lease") || exit
  word "$own/beat"; n=${w:-0}
  beat
  if [ "$mode" = thaw ]; then finish "$@"; fi
  if [ -e "$own/stop" ]; then rm -f "$home/lease"; exit; fi
  word "$home/last"; set +f
  for it in "$home"/o.*; do
    case $it in "$own" | "$home/o.$w") ;; *) rm -rf "$it" ;; esac
  done
  set -f; put "$home/last" "$me"
  put "$own/state" taking
  # What another watch that died may have left held.
  if [ "$mode" = over ]; then thaw "$@"; fi
  if each pre "$@"; then
    put "$own/state" held
    until over; do beat; nap; done
  elif [ -n "$failure" ] && ! over; then
    outcome="failed $failure"
    put "$own/state" "$outcome"
  fi
  : >"$own/stop"
  finish "$@"
}
start() { (watch "$@") </dev/null >/dev/null 2>&1 & }

for it in sleep mkdir mv rm; do
  command -v "$it" >/dev/null || say lacks "$it"
done
now || say lacks /proc/uptime
home=
for it in $folders; do
  if mkdir -p "$it/kurator-barrier-$key" && (: >"$it/kurator-barrier-$key/probe.$$"); then
    home=$it/kurator-barrier-$key
    rm -f "$home/probe.$$"
    break
  fi
done
if [ -z "$home" ]; then say lacks a-folder; fi
own=$home/o.$me

# How it is with our lease.
report() {
  now; limit=$((up + 4))
  while :; do
    word "$home/lease"
    if [ "$w" = "$me" ] && ! beats "$me" && [ ! -e "$own/stop" ]; then say dead; fi
    word "$own/state"
    if [ -e "$own/stop" ]; then
      case $w in failed* | stuck*) say "$w" ;; *) say ended ;; esac
    fi
    now
    if [ "$w" = held ]; then word "$own/until"; say held $((w - up)); fi
    if [ "$up" -ge "$limit" ]; then say taking; fi
    nap
  done
}

case $verb in
probe | hold | renew)
  if [ "$verb" != probe ] && [ -e "$own/stop" ]; then report; fi
  mode=take
  word "$home/lease"
  if [ -e "$home/lease" ] && [ "$w" != "$me" ]; then
    holder=$w
    if beats "$holder"; then
      if [ -e "$home/lease" ]; then say other "$holder"; fi
    else
      if [ "$verb" = hold ]; then mv "$home/lease" "$home/dead.$$" && rm -f "$home/dead.$$"; fi
      mode=over
    fi
  fi
  if [ "$verb" = probe ]; then say ready; fi
  if [ ! -e "$home/lease" ] && [ "$verb" = renew ]; then
    if [ -e "$own/state" ]; then report; fi
    say none
  fi
  mkdir -p "$own"
  now; end=$((up + seconds)); word "$own/until"
  if [ "$end" -gt "${w:-0}" ]; then put "$own/until" "$end"; fi
  if [ ! -e "$home/lease" ]; then start "$mode" "$@"; fi
  report
  ;;
release)
  mkdir -p "$own"
  : >"$own/stop"
  now; limit=$((up + 6)) tried=
  while [ "$up" -lt "$limit" ]; do
    word "$home/lease"
    if [ -e "$home/lease" ] && { [ -z "$w" ] || [ "$w" = "$me" ]; }; then
      if ! beats "$me"; then mv "$home/lease" "$home/dead.$$" && rm -f "$home/dead.$$" && start thaw "$@"; fi
    elif [ -e "$home/lease" ]; then
      say released
    else
      word "$own/state"
      case $w in
      ended | failed* | '') say released ;;
      stuck*) if [ -n "$tried" ]; then say "$w"; fi ;;
      esac
      tried=1
      start thaw "$@"
    fi
    nap
    now
  done
  say releasing
  ;;
esac
