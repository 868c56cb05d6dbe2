# Runs the job's commands ($1) inside the container, below docker's init, which passes signals to
# this shell only. Hands them on to those processes of the job that catch them: the default action
# of SIGUSR1 would end a trainer that is still importing, a `tee`, and the job's own shell.
#
# What the job prints is appended to the log by itself, whoever watches or dies outside; and how it
# ended is written down, which nobody but us can know when docker itself is gone: its exit code, and
# whether somebody had asked for it. That lies in $2: a trainer may clear every folder of its own.
marks="$2"
exec >> "${SPOTRUNNER_LOG_DIR:-.}/trainer.log" 2>&1
trap 'echo "$? ${stopping:+stopped}" > "$marks/exited"' EXIT
# where pip puts the commands of what it installs for a user
[ -z "${HOME:-}" ] || PATH="$HOME/.local/bin:$PATH"
job='' stopping=''
# Only the first process of a container or a systemd unit has a cgroup that is the job's alone.
cgroup=()
[ "$PPID" != 1 ] || mapfile -t cgroup < "/proc/$$/cgroup"

# Into `pids`: all of the job, since a launcher may give its trainers sessions of their own. Where
# we share our cgroup with others: the job's process group, and what descends from it.
find_all() {
  local stat pid fields parent group found
  local -A parents=() known=()
  pids=()
  for stat in /proc/[0-9]*/stat; do
    { read -r fields < "$stat"; } 2> /dev/null || continue
    pid="${stat#/proc/}" pid="${pid%/stat}"
    if [ "$pid" = 1 ] || [ "$pid" = "$$" ]; then continue; fi
    if [ -n "${cgroup[*]}" ]; then
      { mapfile -t found < "/proc/$pid/cgroup"; } 2> /dev/null || continue
      [ "${found[*]}" != "${cgroup[*]}" ] || pids+=("$pid")
      continue
    fi
    # after the name in brackets, which may hold anything: state, parent, process group
    read -r _ parent group _ <<< "${fields##*) }"
    parents[$pid]="$parent"
    [ "$group" != "$job" ] || known[$pid]=1
  done
  for pid in "${!parents[@]}"; do
    parent="$pid"
    until [ -z "$parent" ] || [ -n "${known[$parent]}" ]; do parent="${parents[$parent]}"; done
    [ -z "$parent" ] || pids+=("$pid")
  done
}

# hand_on NAME NUMBER: 1 if no process of the job catches the signal.
hand_on() {
  local pids pid key value caught handed=1
  find_all
  for pid in "${pids[@]}"; do
    caught=0
    while read -r key value; do
      [ "$key" = SigCgt: ] && caught=$(((16#${value: -8} >> ($2 - 1)) & 1))
    done 2> /dev/null < "/proc/$pid/status"
    [ "$caught" = 1 ] && kill -s "$1" "$pid" 2> /dev/null && handed=0
  done
  return "$handed"
}

# While nobody listens yet, look again in a moment.
save() {
  until hand_on USR1 10; do
    sleep 1
    if [ -n "$stopping" ] || ! kill -0 "$job" 2> /dev/null; then return; fi
  done
}

stop() {
  stopping=1
  [ -n "$job" ] || exit 143
  hand_on TERM 15 || kill -s TERM -- "-$job"
}

# For its stack traces. It comes as SIGUSR2, since docker's init keeps SIGABRT to itself.
abort() {
  [ -n "$job" ] || exit 134
  hand_on ABRT 6 || kill -s ABRT -- "-$job"
}

# Handed on from within the traps: a signal between two commands of a loop would be lost in `wait`.
trap save USR1
trap stop TERM
trap abort USR2

set -m # only for this: the job gets a process group of its own
bash -c "$1" &
job=$!
set +m
# from here on a SIGUSR1 finds its way
: > "$marks/listening"

while kill -0 "$job" 2> /dev/null; do
  wait "$job"
done
wait "$job"
