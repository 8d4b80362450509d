/* Compiles rules with libseccomp, the way runc calls it, and writes the BPF program to standard output.
 *
 *   cc -o libseccomp libseccomp.c -lseccomp
 *
 * Standard input, a word each, numbers decimal:
 *   DEFAULT-ACTION
 *   arch NAME                                   (as in seccomp_arch_resolve_name: x86, x32, arm, ...)
 *   rule ACTION SYSCALL N { ARG OP A B } x N    (OP: enum scmp_compare)
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-rc));
		exit(1);
	}
}

int main(void)
{
	unsigned long def, act, a, b;
	char word[64], name[64];
	unsigned int n, arg, op;

	if (scanf("%lu", &def) != 1)
		return 2;
	scmp_filter_ctx ctx = seccomp_init(def);
	if (!ctx)
		return 2;
	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "arch")) {
			if (scanf("%63s", name) != 1)
				return 2;
			check(seccomp_arch_add(ctx, seccomp_arch_resolve_name(name)), name);
			continue;
		}
		if (scanf("%lu %63s %u", &act, name, &n) != 3 || n > 6)
			return 2;
		struct scmp_arg_cmp cmp[6];
		for (unsigned int i = 0; i < n; i++) {
			if (scanf("%u %u %lu %lu", &arg, &op, &a, &b) != 4)
				return 2;
			cmp[i] = (struct scmp_arg_cmp){ arg, op, a, b };
		}
		int nr = seccomp_syscall_resolve_name(name);
		if (nr == __NR_SCMP_ERROR)
			continue;
		check(seccomp_rule_add_array(ctx, act, nr, n, cmp), name);
	}
	check(seccomp_export_bpf(ctx, 1), "export");
	return 0;
}
