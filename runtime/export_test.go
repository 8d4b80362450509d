package runtime

import "time"

// SetPatience changes how long the launcher waits for what does not answer.
func (l *Launcher) SetPatience(d time.Duration) { l.patience = d }
