#!/usr/bin/env bash
# Links between the pages lead to files and headings that exist, and the example of a page is the file that a test
# compiles. The test also fails when the check itself would not notice.
set -euo pipefail
cd "$1"

# Prints the anchors of a page's headings, as GitHub makes them.
anchors() {
  awk '/^```/ { code = !code } !code && /^#+ / { sub(/^#+ /, ""); print tolower($0) }' "$1" |
    sed -E 's/\[([^]]*)\]\([^)]*\)/\1/g; s/[^a-z0-9 _-]//g; s/ /-/g'
}

# Prints the links of a page that lead nowhere.
dead_links() {  # PAGE
  local folder target file anchor
  folder=$(dirname "$1")
  awk '/^```/ { code = !code } !code' "$1" | { grep -oE '\]\([^)]+\)' || true; } | sed -E 's/^\]\(//; s/\)$//' |
    while read -r target; do
      case $target in http:* | https:*) continue ;; esac
      file=${target%%#*} anchor=
      [[ $target != *'#'* ]] || anchor=${target#*#}
      file=${file:+$folder/$file}
      file=${file:-$1}
      if [ ! -e "$file" ]; then
        echo "$1: $target: no such file"
      elif [ -n "$anchor" ] && ! anchors "$file" | grep -qxF -- "$anchor"; then
        echo "$1: $target: no such heading"
      fi
    done
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/page.md" <<'PAGE'
# A page, with `code`
[good](#a-page-with-code) [good](page.md) [elsewhere](https://example.com/none)
[bad](#no-page) [bad](none.md)
PAGE
[ "$(dead_links "$work/page.md" | wc -l)" -eq 2 ] || { echo "the check does not notice:"; dead_links "$work/page.md"; exit 1; }

status=0
while IFS= read -r page; do
  dead=$(dead_links "$page")
  [ -z "$dead" ] || { echo "$dead"; status=1; }
done < <(find . -name '*.md' -not -path './build/*' -not -path './.*')

test=tests/model/heads/smallest_head_mpi_test.cc page=model/heads/README.md
awk '/^\/\/ It ends here/ { exit } on; /^\/\/ The page begins here/ { on = 1 }' "$test" >"$work/code"
awk '/^```cpp$/ { on = 1; next } on && /^```$/ { exit } on' "$page" >"$work/shown"
[ -s "$work/code" ] && diff "$work/code" "$work/shown" || { echo "$page does not show what $test compiles"; status=1; }
exit $status
