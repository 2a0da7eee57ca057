//go:build !unix

package breach

import (
	"errors"
	"os"
)

// Filters are built and used on Unix alone, which is where the service runs.

func mapFile(*os.File, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapFile([]byte) error { return nil }

func lock(*os.File) error { return errors.ErrUnsupported }
