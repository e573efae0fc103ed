package poolservice

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	maxFileBytes = 1 << 20
	// openToOthers are the permissions that make a secret none: all of others', and the group's to
	// write.
	openToOthers fs.FileMode = 0o027
)

// file is a small file that a client is given. name, holds: what it is and what it has, for errors.
type file struct {
	path, name, holds string
	isSecret          bool
}

// contents returns what is in the file, and the information of the very file that was read.
func (f file) contents() (fs.FileInfo, []byte, error) {
	path, err := absolute(f.path, f.name)
	if err != nil {
		return nil, nil, err
	}
	f.path = path
	// Looked at before it is opened, as opening a named pipe waits for its writer.
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, nil, f.unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("the %s %q is no regular file: name one that holds only the %s",
			f.name, f.path, f.holds)
	}
	opened, err := os.Open(f.path)
	if err != nil {
		return nil, nil, f.unreadable(err)
	}
	defer opened.Close()
	if info, err = opened.Stat(); err != nil {
		return nil, nil, f.unreadable(err)
	}
	if mode := info.Mode().Perm(); f.isSecret && mode&openToOthers != 0 {
		return nil, nil, fmt.Errorf("the %s %q is open to other users (mode %04o), so its %s is no secret: "+
			"run chmod 600 %s", f.name, f.path, mode, f.holds, f.path)
	}
	text, err := io.ReadAll(io.LimitReader(opened, maxFileBytes+1))
	if err != nil {
		return nil, nil, f.unreadable(err)
	}
	if len(text) > maxFileBytes {
		return nil, nil, fmt.Errorf("the %s %q is larger than 1 MiB: name one that holds only the %s",
			f.name, f.path, f.holds)
	}
	return info, text, nil
}

func (f file) unreadable(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	advice := ""
	if f.isSecret {
		advice = fmt.Sprintf(", for you alone to read (chmod 600 %s)", f.path)
	}
	return fmt.Errorf("cannot read the %s %q: %w: write the %s into it%s", f.name, f.path, err, f.holds, advice)
}

// absolute returns the path with "~" replaced, whatever becomes of the working directory.
func absolute(path, name string) (string, error) {
	expanded, err := withHome(path)
	if err != nil {
		return "", fmt.Errorf("the %s %q is in a home directory that is not known: %w", name, path, err)
	}
	if expanded == "" || filepath.IsAbs(expanded) {
		return expanded, nil
	}
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot find the %s %q: %w", name, path, err)
	}
	return here + string(filepath.Separator) + expanded, nil
}
