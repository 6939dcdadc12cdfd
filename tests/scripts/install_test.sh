#!/usr/bin/env bash
# Runs launch/install while another apt is at work, and after one that was interrupted. apt's own locks are used, in a
# folder that apt takes for the machine.
set -euo pipefail
cd "$1"
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || ! command -v python3 >/dev/null; then
  echo "skipped: needs root, apt and python3"
  exit 77
fi
work=$(mktemp -d)
holder=
trap '[ -z "$holder" ] || kill "$holder" 2>/dev/null; rm -rf "$work"' EXIT
fail() { echo "$1" >&2; exit 1; }

# Makes a machine on which apt believes that dict-gcide is installed, and dpkg that nothing is.
root=$work/root
mkdir -p "$root"/etc/apt/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} "$root"/var/lib/apt/lists/partial \
  "$root"/var/lib/dpkg/updates "$root"/var/cache/apt/archives/partial "$root"/var/log/apt "$work/dpkg"
: >"$work/dpkg/status"
printf '%s\n' 'Package: dict-gcide' 'Status: install ok installed' 'Architecture: all' 'Version: 1' \
  'Maintainer: nobody <nobody@localhost>' 'Description: a test' >"$root/var/lib/dpkg/status"
printf '%s\n' "Dir \"$root\";" "Dir::State::status \"$root/var/lib/dpkg/status\";" 'APT::Sandbox::User "root";' >"$work/apt.conf"
export APT_CONFIG=$work/apt.conf DPKG_ADMINDIR=$work/dpkg

# hold FILE: another process takes apt's lock of that name, until it is killed. Sets $holder.
hold() {
  rm -f "$work/held"
  python3 -c '
import fcntl, signal, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
signal.pause()' "$1" "$work/held" &
  holder=$!
  until [ -e "$work/held" ]; do kill -0 "$holder" || fail "no lock of $1"; sleep 0.05; done
}
release() { kill "$holder"; wait "$holder" 2>/dev/null || true; holder=; }

launch/install quickstart >"$work/out" 2>&1 || fail "without a lock: $(cat "$work/out")"
! grep -q waiting "$work/out" || fail "it waited for nobody: $(cat "$work/out")"

for lock in var/lib/apt/lists/lock var/lib/dpkg/lock-frontend var/lib/dpkg/lock var/cache/apt/archives/lock; do
  hold "$root/$lock"
  launch/install quickstart >"$work/out" 2>&1 &
  installing=$!
  # Not every apt takes every lock. One that does not take it says nothing and ends.
  until grep -q "^waiting for process $holder (python3), which installs" "$work/out" || ! kill -0 "$installing" 2>/dev/null; do
    sleep 0.05
  done
  release
  wait "$installing" || fail "$lock: $(cat "$work/out")"
  [ "$(grep -c '^waiting for ' "$work/out")" -le 1 ] || fail "$lock: said more than once: $(cat "$work/out")"
  if grep -q '^waiting for ' "$work/out"; then echo "waited for $lock"; fi
done >"$work/waited"
for lock in var/lib/apt/lists/lock var/lib/dpkg/lock-frontend; do
  grep -q "^waited for $lock" "$work/waited" || fail "$lock was not waited for"
done

hold "$root/var/lib/apt/lists/lock"
! ISTHMUS_LOCK_PATIENCE=0 launch/install quickstart >"$work/out" 2>&1 || fail "it ended well, without the lock"
grep -q "process $holder (python3) has kept apt's lock for 0 s" "$work/out" || fail "not named: $(cat "$work/out")"
release

# A lock that nobody holds is not waited for: the disk of the lists has no room for another file.
if unshare --mount true 2>/dev/null; then
  ! unshare --mount bash -ec 'mount -t tmpfs -o nr_inodes=8 tmpfs "$0"
    mkdir "$0/partial"
    n=0
    while true >"$0/$((++n))"; do :; done 2>/dev/null
    launch/install quickstart' "$root/var/lib/apt/lists" >"$work/out" 2>&1 || fail "it ended well, without a lock"
  grep -q 'No space left on device' "$work/out" || fail "not said: $(cat "$work/out")"
  ! grep -q waiting "$work/out" || fail "it waited for nobody: $(cat "$work/out")"
  grep -q 'apt-get failed; see above' "$work/out" || fail "no failure: $(cat "$work/out")"
fi

# dpkg leaves this state when it is killed.
printf '%s\n' 'Package: half' 'Status: install ok unpacked' 'Architecture: all' 'Version: 1' \
  'Maintainer: nobody <nobody@localhost>' 'Description: a test' >"$root/var/lib/dpkg/updates/0001"
! launch/install quickstart >"$work/out" 2>&1 || fail "it ended well after an interrupted dpkg"
grep -q 'run `dpkg --configure -a`, then start again' "$work/out" || fail "no remedy: $(cat "$work/out")"
