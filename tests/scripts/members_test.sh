#!/usr/bin/env bash
# No class has more than 15 private members: one that has more does several things, and splits. The test also fails when
# the check itself would not notice.
set -euo pipefail
cd "$1"
most=15

# Prints "members file:line class" of each class or struct that has data members whose names end as those of private
# ones do. Relies on the format that format_test.sh holds: what a class declares stands two columns to its right.
members() {
  awk '
    function close_class() {
      if (count[depth] > 0) print count[depth], place[depth], name[depth]
      --depth
    }
    function add(declaration) {
      while (gsub(/<[^<>]*>/, "", declaration)) {}
      if (declaration ~ /^[^={;]*\(/) return  # a function
      gsub(/\{[^{}]*\}|\[[^][]*\]/, "", declaration)
      while (gsub(/\([^()]*\)/, "", declaration)) {}
      gsub(/= *[^,;]*/, "", declaration)
      count[depth] += gsub(/[a-z0-9]_ *[,;]/, "", declaration)
    }
    FNR == 1 { depth = 0; pending = ""; head = "" }
    {
      gsub(/"([^"\\]|\\.)*"/, "\"\"")
      sub(/ *\/\/.*$/, "")
      if ($0 == "") next
      match($0, /^ */)
      indent = RLENGTH
      # The head of a class ends with a brace, perhaps lines later.
      if (head == "" && $0 ~ /^ *(template *<.*> *)?(class|struct) [A-Za-z]/ && $0 !~ /;$/) {
        head = $0; head_indent = indent; head_line = FNR; pending = ""
        if ($0 !~ /\{$/) next
      }
      if (head != "") {
        if ($0 !~ /[{}]$/) next
        if ($0 ~ /\{$/) {
          ++depth
          match(head, /(class|struct) [A-Za-z0-9_]+/)
          name[depth] = substr(head, RSTART, RLENGTH); place[depth] = FILENAME ":" head_line
          count[depth] = 0; at[depth] = head_indent
        }
        head = ""
        next
      }
      if (depth == 0) next
      if (indent == at[depth] && $0 ~ /^ *\}/) {
        # An object of the class may be declared with it.
        rest = $0
        close_class()
        if (depth > 0 && rest ~ /[a-z0-9]_ *(;|=|\{|\[)/) ++count[depth]
        next
      }
      if (indent < at[depth] + 2) next
      if (indent == at[depth] + 2) pending = ""
      else if (pending == "") next
      pending = pending $0
      if ($0 ~ /;$/) { add(pending); pending = "" }
      else if ($0 ~ /[{}]$/) pending = ""
    }
  ' "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/kinds.h" <<'KINDS'
class Nothing {
 public:
  explicit Nothing(int of)
      : Base(of_, other_) {}
  int value() const { return of_; }
  Nothing& operator=(const Nothing&) = delete;
};
struct Open {
  int value = 0, other;
};
template <typename T>
class EveryKind : public Base<T>,
                  public Other {
 public:
  int Name(int x_like = 3);

 private:
  struct Inner {
    int inner_;
  };
  int Function() const {
    int local_;
    return local_;
  }
  T one_;
  const std::function<void(int, const T&)> two_;
  double three_ = 3, four_{4};
  std::map<int, std::vector<T>> five_ = Make(1, 2), six_;  // not seven_;
  std::array<std::array<int, kMany>, kMore>
      seven_;
  T* eight_ = nullptr;
  int nine_[9] = {1, 2};
  struct Block {
    int rows = 0;
  } ten_;
  static constexpr char kName[] = "eleven_;";
};
KINDS
found=$(members "$work/kinds.h")
[ "$found" = "1 $work/kinds.h:18 struct Inner
10 $work/kinds.h:12 class EveryKind" ] || { printf 'the check finds:\n%s\n' "$found"; exit 1; }

mapfile -t files < <(find runtime parallel ops model checkpoint launch tools tests -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh')
members "${files[@]}" >"$work/found"
# A check that reads nothing passes nothing.
[ "$(wc -l <"$work/found")" -ge 100 ] || { echo "found only $(wc -l <"$work/found") classes with private members"; exit 1; }
offences=$(awk -v most="$most" '$1 > most' "$work/found")
if [ -n "$offences" ]; then
  printf 'classes have more than %s private members:\n%s\n' "$most" "$offences"
  exit 1
fi
