//go:build unix

package breach

import (
	"os"
	"syscall"
)

// mapFile maps a file for reading. Its pages are shared with everybody who maps it.
func mapFile(file *os.File, size int) ([]byte, error) {
	return syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
}

func unmapFile(mapped []byte) error { return syscall.Munmap(mapped) }

// lock takes the file for this process until it is closed, or fails at once.
func lock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
