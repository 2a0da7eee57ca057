//go:build unix && !linux

package pgtest

import "syscall"

// dieWithParent does nothing: only Linux tells a program of its parent's death
// in a way that PostgreSQL heeds. Elsewhere a killed test binary leaves its server.
func dieWithParent(*syscall.SysProcAttr) {}
