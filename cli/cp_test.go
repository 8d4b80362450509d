package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-engine/berth/cli/localtar"
)

// archiveEngine is an engine with one container whose files are a directory of this machine.
func archiveEngine(t *testing.T, root func() string) string {
	t.Helper()
	return engineOf(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/containers/c/archive") {
			w.Header().Set("Api-Version", "1.51")
			if !strings.HasSuffix(r.URL.Path, "_ping") {
				http.Error(w, `{"message":"not here"}`, http.StatusNotFound)
			}
			return
		}
		asked := r.URL.Query().Get("path")
		path := filepath.Join(root(), asked)
		info, err := os.Lstat(path)
		if err != nil {
			http.Error(w, `{"message":"Could not find the file `+asked+` in container c"}`, http.StatusNotFound)
			return
		}
		if strings.HasSuffix(asked, "/") || strings.HasSuffix(asked, "/.") {
			if info, err = os.Stat(path); err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			link, _ = os.Readlink(path)
			if resolved, err := filepath.EvalSymlinks(path); err == nil { // as Docker's engine says it: resolved
				link = "/" + strings.TrimPrefix(strings.TrimPrefix(resolved, root()), "/")
			}
		}
		stat, _ := json.Marshal(map[string]any{"name": filepath.Base(path), "size": info.Size(), "mode": info.Mode(), "mtime": info.ModTime(), "linkTarget": link})
		w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(stat))
		switch r.Method {
		case http.MethodGet:
			name := filepath.Base(filepath.Clean("/" + asked))
			if strings.HasSuffix(asked, "/.") {
				name = "."
			}
			w.Header().Set("Content-Type", "application/x-tar")
			if err := localtar.Write(w, path, name); err != nil && !errors.Is(err, syscall.EPIPE) { // who refuses it does not read it
				t.Error(err)
			}
		case http.MethodPut:
			if _, err := localtar.Extract(r.Body, path, "", ""); err != nil {
				http.Error(w, fmt.Sprintf(`{"message":%q}`, err), http.StatusBadRequest)
			}
		}
	})
}

// listing is a tree as lines: path, mode, content.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := rel + " " + info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return lines
}

// TestCpAsDocker copies with Docker's client and with this one between the same trees. One difference is
// meant: a link that points out of what is copied is copied too, where Docker's client gives up.
func TestCpAsDocker(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("needs Docker's own client to compare with: there is no docker in PATH")
	}
	var root string
	host := archiveEngine(t, func() string { return root })
	config := t.TempDir()
	// Both sides have: a file, a directory with things in it, an empty directory, links to a file and to
	// a directory.
	fill := func(dir, mark string) {
		for _, d := range []string{"d/sub", "empty"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, content := range map[string]string{"f": "f", "g": "g", "d/x": "x", "d/sub/y": "y"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content+" of "+mark), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{"lf": "f", "ld": "d", "d/in": "sub/y"} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, line := range []string{
		"c:/f new", "c:/f f", "c:/f .", "c:/f empty", "c:/f empty/", "c:/f nodir/", "c:/f nodir/x", "c:/f ld", "c:/f lf", "c:/f ./empty/renamed", "c:/f d/x/",
		"c:/d new", "c:/d empty", "c:/d .", "c:/d f", "c:/d/ new", "c:/d/. new", "c:/d/. empty", "c:/d/. .", "c:/d new/", "c:/d/sub empty/.", "c:/none x",
		"c:/lf new", "c:/ld new", "-L c:/lf new", "-L c:/ld new", "-L c:/ld empty", "c:/ld/ new", "c:/ld/. new", "c:f new", "c:d/sub/ new",
		"f c:/new", "f c:/f", "f c:/", "f c:/empty", "f c:/empty/", "f c:/nodir/", "f c:/ld", "f c:/lf", "f c:/empty/renamed", "./f c:/g", "f c:/nodir/x",
		"d c:/new", "d c:/empty", "d c:/", "d c:/f", "d/ c:/new", "d/. c:/new", "d/. c:/empty", "d c:/new/", ". c:/empty", "d c:/ld", "none c:/x",
		"lf c:/new", "ld c:/new", "-L lf c:/new", "-L ld c:/new", "ld/ c:/new", "ld/. c:/new", "-a d c:/empty",
		"f g", "c:/f c:/g",
	} {
		t.Run(line, func(t *testing.T) {
			try := func(run func(args []string, dir string) error) (here, there []string, failed bool) {
				root = t.TempDir()
				dir := t.TempDir()
				fill(root, "container")
				fill(dir, "here")
				failed = run(strings.Fields(line), dir) != nil
				return listing(t, dir), listing(t, root), failed
			}
			var dockerSays, berthSays string
			wantHere, wantThere, wantFail := try(func(args []string, dir string) error {
				cmd := exec.Command(docker, append([]string{"--config", config, "-H", host, "cp", "-q"}, args...)...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				dockerSays = string(out)
				return err
			})
			here, there, fail := try(func(args []string, dir string) error {
				cmd := process(host, append([]string{"cp", "-q"}, args...)...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				berthSays = string(out)
				return err
			})
			if fail != wantFail {
				t.Errorf("failed: %v %q, Docker's: %v %q", fail, berthSays, wantFail, dockerSays)
			}
			if diff := cmp.Diff(wantHere, here); diff != "" {
				t.Errorf("here, docker (-), berth (+):\n%s", diff)
			}
			if diff := cmp.Diff(wantThere, there); diff != "" {
				t.Errorf("in the container, docker (-), berth (+):\n%s", diff)
			}
		})
	}
}
