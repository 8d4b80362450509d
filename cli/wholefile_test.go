package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSaveBrokenOff: a save that a signal ends leaves what was there, and nothing else; one that comes to its end
// replaces it. So it is, but for SIGKILL, on a file system without O_TMPFILE.
func TestSaveBrokenOff(t *testing.T) {
	for name, test := range map[string]struct {
		sig     syscall.Signal // 0: none
		without bool           // O_TMPFILE
		want    string
	}{
		"Ctrl-C":                     {syscall.SIGINT, false, "old"},
		"ended":                      {syscall.SIGTERM, false, "old"},
		"killed":                     {syscall.SIGKILL, false, "old"},
		"whole":                      {0, false, "whole"},
		"Ctrl-C, without O_TMPFILE":  {syscall.SIGINT, true, "old"},
		"ended, without O_TMPFILE":   {syscall.SIGTERM, true, "old"},
		"hung up, without O_TMPFILE": {syscall.SIGHUP, true, "old"},
		"whole, without O_TMPFILE":   {0, true, "whole"},
	} {
		t.Run(name, func(t *testing.T) {
			begun, over := make(chan struct{}), make(chan struct{})
			host := engineOf(t, nil, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/images/get") {
					return
				}
				_, _ = w.Write([]byte("who")) // the client may be gone
				_ = http.NewResponseController(w).Flush()
				close(begun)
				<-over
				_, _ = w.Write([]byte("le"))
			})
			dir := t.TempDir()
			path := filepath.Join(dir, "saved")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := process(host, "save", "-o", path, "debian")
			cmd.Stderr = os.Stderr
			if test.without {
				cmd.Env = append(cmd.Env, "BERTH_TEST_NO_TMPFILE=1")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-begun
			if test.sig != 0 {
				if err := cmd.Process.Signal(test.sig); err != nil {
					t.Error(err)
				}
			} else {
				close(over)
			}
			if err := cmd.Wait(); (err == nil) != (test.sig == 0) {
				t.Errorf("it ended with %v", err)
			}
			if test.sig != 0 {
				close(over)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != test.want {
				t.Errorf("%q, %v", got, err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 1 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}
