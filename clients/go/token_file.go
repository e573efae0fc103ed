package poolservice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

const (
	maxTokenFileBytes = 1 << 20
	// openToOthers are the permissions that make a token no secret: all of others', and the
	// group's to write.
	openToOthers fs.FileMode = 0o027
)

// tokenFile is a file with a token, which may be replaced at any time.
type tokenFile struct {
	path string

	mutex  sync.Mutex
	header map[string]string
	info   fs.FileInfo // of the file that the header is of
}

func bearerOfFile(path string) (bearer, error) {
	path, err := absolute(path)
	if err != nil {
		return nil, err
	}
	file := &tokenFile{path: path}
	if err := file.read(); err != nil {
		return nil, err
	}
	return file.current, nil
}

// absolute returns the path with "~" replaced, whatever becomes of the working directory.
func absolute(path string) (string, error) {
	expanded, err := withHome(path)
	if err != nil {
		return "", fmt.Errorf("the token file %q is in a home directory that is not known: %w", path, err)
	}
	if expanded == "" || filepath.IsAbs(expanded) {
		return expanded, nil
	}
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot find the token file %q: %w", path, err)
	}
	return here + string(filepath.Separator) + expanded, nil
}

// current reads the file again if it has changed. A file that is bad now, since it is being
// written, say, keeps the last token.
func (f *tokenFile) current() map[string]string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if info, err := os.Stat(f.path); err == nil && !isUnchanged(f.info, info) {
		_ = f.read()
	}
	return f.header
}

func isUnchanged(before, now fs.FileInfo) bool {
	return os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

func (f *tokenFile) read() error {
	info, text, err := f.contents()
	if err != nil {
		return err
	}
	token := string(bytes.TrimSpace(text))
	switch {
	case token == "":
		return fmt.Errorf("the token file %q is empty: write the token into it", f.path)
	case !isToken(token):
		return fmt.Errorf("the token file %q holds no valid token: %s", f.path, whatATokenIs)
	}
	f.header, f.info = headerOf(token), info
	return nil
}

func (f *tokenFile) contents() (fs.FileInfo, []byte, error) {
	// Looked at before it is opened, as opening a named pipe waits for its writer.
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, nil, f.unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("the token file %q is no regular file: name one that holds only the token", f.path)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, f.unreadable(err)
	}
	defer file.Close()
	// Of the file that is read, should another have taken its place.
	if info, err = file.Stat(); err != nil {
		return nil, nil, f.unreadable(err)
	}
	if mode := info.Mode().Perm(); mode&openToOthers != 0 {
		return nil, nil, fmt.Errorf("the token file %q is open to other users (mode %04o), so its token is no secret: "+
			"run chmod 600 %s", f.path, mode, f.path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFileBytes+1))
	if err != nil {
		return nil, nil, f.unreadable(err)
	}
	if len(text) > maxTokenFileBytes {
		return nil, nil, fmt.Errorf("the token file %q is larger than 1 MiB: name one that holds only the token", f.path)
	}
	return info, text, nil
}

func (f *tokenFile) unreadable(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("cannot read the token file %q: %w: write the token into it, for you alone to read (chmod 600 %s)",
		f.path, err, f.path)
}
