#!/usr/bin/env bash
# A source includes, itself or through its headers, what declares each name of the project that it uses. The tests
# compile several sources as one and would not notice; ./launch/quickstart compiles each alone. The test also fails when
# the check itself would not notice.
set -euo pipefail
cd "$1"

# Prints "file: name (header)" for each name that file's own includes don't declare. Takes file names.
offences() {
  perl -e '
    use strict;
    use warnings;
    my (%text, %includes, %declared_in, %own);
    for my $file (@ARGV) {
      open(my $in, "<", $file) or die "$file: $!";
      local $/;
      my $text = <$in>;
      $includes{$file} = [$text =~ /^#include "([^"]+)"/mg];
      # Strings, comments and suites of tests name nothing.
      $text =~ s{"(?:\\.|[^"\\\n])*"|//[^\n]*}{ }g;
      $text =~ s{^TEST\(\w+}{TEST(}mg;
      $text{$file} = $text;
      # Names of members and of what a source alone declares may mean something else elsewhere: they are left out.
      my $declared = qr/[a-zA-Z_][\w:<>,*& \[\]]*[ *&]([A-Z]\w+) *[({;=]/;
      $own{$_} = 1 for $text =~ /^ +(?!return\b|case\b|else\b)$declared/mg;
      $own{$_} = 1 for $text =~ /^ +(?:class|struct|enum|enum class|using) ([A-Z]\w+)/mg;
      next unless $file =~ /\.(h|cuh)$/;
      # Declarations of a namespace begin in the first column.
      my @names = $text =~ /^(?:class|struct|enum class|using) ([A-Z]\w+)\b/mg;
      push @names, $text =~ /^inline constexpr [^=({\n]*?\b(k[A-Z]\w+)/mg;
      push @names, $text =~ /^(?!using|class|struct|enum|#|\}|return)[a-zA-Z_][\w:<>,*& \[\]]*[ *&]([A-Z]\w+)\(/mg;
      push @{$declared_in{$_}}, $file for @names;
    }
    for my $file (@ARGV) {
      my %seen = ($file => 1);
      my @open = ($file);
      while (defined(my $next = pop @open)) {
        for my $included (@{$includes{$next} || []}) {
          push @open, $included unless $seen{$included}++;
        }
      }
      my %told;
      while ($text{$file} =~ /(?<![\w.:>])([A-Zk]\w+)\b/g) {
        my $name = $1;
        next if $told{$name}++ || $own{$name} || !$declared_in{$name} || grep { $seen{$_} } @{$declared_in{$name}};
        # The name is a function, member, type or constant of the file itself.
        next if $text{$file} =~ /[\w>*&] +[*&]*(?:\w+::)*\Q$name\E *[({=;]|(?:class|struct|using|enum class|typename) \Q$name\E\b/;
        print "$file: $name ($declared_in{$name}[0])\n";
      }
    }' "$@"
}

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
(
  cd "$place"
  printf 'class Thing {};\nint Made(int x);\ninline constexpr int kMost = 3;\n' >declares.h
  printf '#include "declares.h"\n' >other.h
  printf '#include "other.h"\nint x = Made(kMost);\n' >sound.cc
  printf 'int x = Made(kMost); Thing thing;  // Made\n' >lacking.cc
  found=$(offences ./declares.h other.h declares.h sound.cc lacking.cc | sort -u | wc -l)
  [ "$found" -eq 3 ] || { echo "the check does not notice a missing include"; exit 1; }
)

mapfile -t files < <(find runtime ops parallel model checkpoint launch tests tools -name cuda_on_cpu -prune -o \
  -regex '.*\.\(h\|cc\|cu\|cuh\)' -print | sort)
[ "${#files[@]}" -gt 100 ] || { echo "found ${#files[@]} sources"; exit 1; }
found=$(offences "${files[@]}")
if [ -n "$found" ]; then
  printf 'names whose headers are not included:\n%s\n' "$found"
  exit 1
fi
