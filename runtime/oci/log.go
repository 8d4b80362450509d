package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// report says what went wrong: on standard error for people, in the log for the caller that named one (podman and
// containerd read the last line of it).
func (p *program) report(err error) {
	fmt.Fprintf(p.stderr, "berth-runtime: %v\n", err)
	if p.log == "" {
		return
	}
	f, openErr := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if openErr != nil {
		fmt.Fprintf(p.stderr, "berth-runtime: %v\n", openErr)
		return
	}
	defer f.Close()
	line := fmt.Sprintf("time=%q level=error msg=%q\n", time.Now().Format(time.RFC3339), err)
	if p.logFormat == "json" {
		b, _ := json.Marshal(map[string]string{"level": "error", "msg": err.Error(), "time": time.Now().Format(time.RFC3339)}) // strings always can
		line = string(b) + "\n"
	}
	if _, err := f.WriteString(line); err != nil {
		fmt.Fprintf(p.stderr, "berth-runtime: %v\n", err)
	}
}
