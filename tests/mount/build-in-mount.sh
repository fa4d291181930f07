#!/bin/bash
# SPDX-License-Identifier: MIT
# A C project of 121 files builds with make -j4 inside the mount to the very same bytes as outside, and runs.
. "$SRC/tests/mount/lib.sh"
need_fuse
need make gcc

FILES=120

# Each file has a table of 8,192 numbers and a function over it: about 12 MiB of sources, 4 MiB each of objects,
# library and program.
make_project() # DIR
{
	mkdir -p "$1/part"
	awk -v files=$FILES -v dir="$1" 'BEGIN {
		x = 12345
		main = dir "/main.c"
		header = dir "/all.h"
		for (f = 0; f < files; f++) {
			out = dir "/part/part" f ".c"
			printf "#include \"../all.h\"\nstatic const unsigned table[8192] = {\n" >out
			for (i = 0; i < 8192; i++) {
				x = (x * 16807 + f) % 2147483647
				printf "%d,%s", x, i % 10 == 9 ? "\n" : "" >out
			}
			printf "};\nunsigned part%d(unsigned v)\n{\n", f >out
			printf "\tfor (int i = 0; i < 8192; i++)\n\t\tv = v * 31 + table[i];\n\treturn v;\n}\n" >out
			close(out)
			printf "unsigned part%d(unsigned v);\n", f >header
		}
		printf "#include \"all.h\"\n#include <stdio.h>\nint main(void)\n{\n\tunsigned v = 1;\n" >main
		for (f = 0; f < files; f++)
			printf "\tv = part%d(v);\n\tprintf(\"%d %%u\\n\", v);\n", f, f >main
		printf "\treturn 0;\n}\n" >main
	}'
	cat >"$1/Makefile" <<-'END'
		.RECIPEPREFIX = >
		parts := $(patsubst %.c,%.o,$(wildcard part/*.c))
		prog: main.o libparts.a
		> gcc -o $@ $^
		libparts.a: $(parts)
		> ar rcD $@ $(sort $^)
		%.o: %.c all.h
		> gcc -O1 -c -o $@ $<
	END
}

build() # DIR
{
	make -s -j4 -C "$1" >make.log 2>&1 || fail "make in $1: $(tail -n 20 make.log)"
}

make_project outside
build outside
outside/prog >expected
assert_eq "lines of the program's output" $FILES "$(wc -l <expected)"
for cache in kernel none; do
	mount_spillfs mnt "ram=8m,swapsize=1g,size=512m,cache=$cache"
	make_project mnt/inside
	drop_cache mnt
	mkdir mnt/tmp
	TMPDIR=$PWD/mnt/tmp build mnt/inside
	mnt/inside/prog >got
	cmp expected got || fail "cache=$cache: the program's output differs"
	drop_cache mnt
	make -q -C mnt/inside prog || fail "cache=$cache: make finds something to do again"
	diff -r outside mnt/inside || fail "cache=$cache: the trees differ"
	touch mnt/inside/part/part7.c
	! make -q -C mnt/inside prog || fail "cache=$cache: make does not see a touched file"
	build mnt/inside
	cmp outside/prog mnt/inside/prog || fail "cache=$cache: the second build differs"
	expect_swapped mnt 1024
	rm -r mnt/inside mnt/tmp
	expect_empty mnt
	unmount mnt
done
