package compile

import (
	"errors"
	"flag"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (go test -run %s -update writes it anew); got:\n%s", path, t.Name(), firstDifference(text, string(want)))
	}
}

// firstDifference shows the lines around the first one that differs.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			expected := "(nothing)"
			if i < len(w) {
				expected = w[i]
			}
			return fmt.Sprintf("line %d\n got  %s\n want %s", i+1, strings.Join(g[max(0, i-2):min(len(g), i+3)], "\n      "), expected)
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

const postureChild = "BT_POSTURE_ROOT"

// The process in the container is its first, with no shell between: what it shows of itself is what it was
// given.
var postureFiles = []string{"cat", "/proc/self/status", "/proc/self/limits", "/proc/self/mountinfo", "/proc/self/environ", "/proc/self/cgroup",
	"/proc/self/oom_score_adj", "/proc/self/personality", "/proc/self/stat", "/proc/keys"}

// TestPosture compares everything that /proc shows of a container's process with the whole expectation: what comes
// in addition fails too. The engine is started in the worst of ways.
func TestPosture(t *testing.T) {
	if root := os.Getenv(postureChild); root != "" {
		showPosture(t, root)
		return
	}
	root := busybox(t)
	for _, tool := range []string{"nohup", "nice", "taskset", "ionice", "setarch"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("needs %s", tool)
		}
	}
	allCPUs := widestAffinity(t)
	oneCPU := strings.FieldsFunc(allCPUs, func(r rune) bool { return r == ',' || r == '-' })[0]
	cmd := exec.Command("setarch", "-R", "nohup", "nice", "-n", "7", "taskset", "-c", oneCPU, "ionice", "-c", "3", "sh", "-c",
		"ulimit -S -n 333; ulimit -S -c 0; ulimit -S -s 4096; umask 077; trap '' USR1 PIPE; exec 7</etc/passwd; exec \"$@\"", "sh",
		os.Args[0], "-test.run=^TestPosture$", "-test.count=1")
	cmd.Env = append(os.Environ(), postureChild+"="+root, "BT_SECRET=engine")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, text, ok := strings.Cut(string(out), "POSTURE\n")
	if !ok {
		t.Fatalf("no posture in\n%s", out)
	}
	text, _, _ = strings.Cut(text, "PASS\n")
	golden(t, "posture.txt", normalPosture(text, allCPUs))
}

func showPosture(t *testing.T, root string) {
	spec := specFor(root, postureFiles...)
	spec.Linux.MaskedPaths = []string{"/proc/timer_list", "/proc/keys", "/sys/firmware", "/sys/nonexistent"} // which are in every kernel, or in none
	adj := 300                                                                                               // raising is allowed to everybody
	spec.Process.OOMScoreAdj = &adj
	got := run(t, spec, Inputs{})
	if got.err != nil || got.status != 0 {
		t.Fatalf("%v, status %d, %s", got.err, got.status, got.out)
	}
	spec = specFor(root, "ls", "/proc/self/fd")
	fds := run(t, spec, Inputs{})
	fmt.Printf("POSTURE\n%s\ndescriptors: %s\n", got.out, strings.ReplaceAll(strings.TrimSpace(fds.out), "\n", " "))
}

var (
	postureDrop   = regexp.MustCompile(`(?m)^(Vm\w+|Rss\w+|FDSize|HugetlbPages|\w*voluntary_ctxt_switches|SigQ|Mems_allowed|Cpus_allowed|CoreDumping|THP_enabled|Threads|untag_mask|Speculation\w+|x86_\w+|SpeculationIndirectBranch|State|Kthread):.*\n`)
	postureStat   = regexp.MustCompile(`(?m)^1 \(cat\) (.*)$`)
	postureMounts = regexp.MustCompile(`(?m)^\d+ \d+ \d+:\d+ (\S+ \S+ \S+) .*- (\S+) (\S+) (.*)$`)
	postureKey    = regexp.MustCompile(`(?m)^[0-9a-f]{8} .*\n`)
	postureCgroup = regexp.MustCompile(`(?m)(^\d+:[\w=,-]*:/\n)+`)
	postureSize   = regexp.MustCompile(`(size|nr_inodes)=\d+k?,?`)
)

// widestAffinity is the list of the processors that a process of ours can have, whatever this one was given.
func widestAffinity(t *testing.T) string {
	t.Helper()
	type answer struct {
		status []byte
		err    error
	}
	said := make(chan answer)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its affinity
		var every unix.CPUSet
		for i := range len(every) * bits.UintSize {
			every.Set(i)
		}
		err := unix.SchedSetaffinity(0, &every)
		status, failed := os.ReadFile("/proc/thread-self/status")
		said <- answer{status, errors.Join(err, failed)}
	}()
	a := <-said
	_, rest, ok := strings.Cut(string(a.status), "Cpus_allowed_list:\t")
	if a.err != nil || !ok {
		t.Fatalf("affinity: %v", a.err)
	}
	list, _, _ := strings.Cut(rest, "\n")
	return list
}

// normalPosture takes out what the machine decides, after checking it.
func normalPosture(s, allCPUs string) string {
	s = strings.ReplaceAll(s, "Cpus_allowed_list:\t"+allCPUs+"\n", "Cpus_allowed_list:\tall\n")
	s = postureDrop.ReplaceAllString(s, "")
	s = postureStat.ReplaceAllStringFunc(s, func(line string) string {
		f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
		// proc_pid_stat(5): 5 pgrp, 6 session, 7 tty, 18 priority, 19 nice, 38 exit signal, 40 real-time priority, 41 policy
		return fmt.Sprintf("stat: group %s session %s tty %s priority %s nice %s exit signal %s rt %s policy %s", f[2], f[3], f[4], f[15], f[16], f[35], f[37], f[38])
	})
	s = postureMounts.ReplaceAllStringFunc(s, func(line string) string {
		m := postureMounts.FindStringSubmatch(line)
		options := m[4]
		if strings.HasSuffix(m[1], "/ / "+strings.Fields(m[1])[2]) || strings.Fields(m[1])[1] == "/" {
			return "mount / " + strings.Fields(m[1])[2]
		}
		return "mount " + m[1] + " " + m[2] + " " + strings.TrimRight(postureSize.ReplaceAllString(options, ""), ",")
	})
	s = postureCgroup.ReplaceAllString(s, "cgroup: /\n")
	return strings.ReplaceAll(limitsAsExpected(postureKey.ReplaceAllString(s, "a key\n")), "\x00", "\n")
}

// limitsAsExpected replaces each limit that is what it must be on this machine by "as expected".
func limitsAsExpected(s string) string {
	names := map[string]string{"Max cpu time": "RLIMIT_CPU", "Max file size": "RLIMIT_FSIZE", "Max data size": "RLIMIT_DATA", "Max stack size": "RLIMIT_STACK",
		"Max core file size": "RLIMIT_CORE", "Max resident set": "RLIMIT_RSS", "Max processes": "RLIMIT_NPROC", "Max open files": "RLIMIT_NOFILE",
		"Max locked memory": "RLIMIT_MEMLOCK", "Max address space": "RLIMIT_AS", "Max file locks": "RLIMIT_LOCKS", "Max pending signals": "RLIMIT_SIGPENDING",
		"Max msgqueue size": "RLIMIT_MSGQUEUE", "Max nice priority": "RLIMIT_NICE", "Max realtime priority": "RLIMIT_RTPRIO", "Max realtime timeout": "RLIMIT_RTTIME"}
	var out strings.Builder
	for line := range strings.Lines(s) {
		name, values, _ := strings.Cut(line, "  ")
		resource, ok := names[name]
		if !ok {
			out.WriteString(line)
			continue
		}
		f := strings.Fields(values)
		for _, l := range limits {
			var own unix.Rlimit
			if l.name != resource || unix.Getrlimit(l.resource, &own) != nil {
				continue
			}
			soft, hard := amount(min(l.soft, own.Max)), amount(min(l.hard, own.Max))
			if len(f) >= 2 && f[0] == soft && f[1] == hard {
				line = name + ": as expected\n"
			}
		}
		out.WriteString(line)
	}
	return out.String()
}

func TestProcessors(t *testing.T) {
	for _, c := range []struct {
		list string
		want []int
	}{{"0", []int{0}}, {"0-3,6", []int{0, 1, 2, 3, 6}}, {"8191", []int{8191}}, {"", nil}, {"3-1", nil}, {"a", nil}, {"8192", nil}, {"1,", nil}, {"-1", nil}} {
		set, err := processors(c.list)
		if (err != nil) != (c.want == nil) {
			t.Errorf("%q: %v", c.list, err)
			continue
		}
		var got []int
		for i := range 8 * len(set) {
			if set[i/8]&(1<<(i%8)) != 0 {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %v", c.list, got)
		}
	}
}
