package pgtest

import "syscall"

// dieWithParent makes the kernel end the program (SIGQUIT: immediate shutdown)
// when the test binary is killed and cannot do it itself.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
