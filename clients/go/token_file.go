package poolservice

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// tokenFile is a file with a token, which may be replaced at any time.
type tokenFile struct {
	path string

	mutex  sync.Mutex
	header map[string]string
	info   fs.FileInfo // of the file that the header is of
}

func bearerOfFile(path string) (bearer, error) {
	path, err := absolute(path, "token file")
	if err != nil {
		return nil, err
	}
	file := &tokenFile{path: path}
	if err := file.read(); err != nil {
		return nil, err
	}
	return file.current, nil
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
	info, text, err := file{path: f.path, name: "token file", holds: "token", isSecret: true}.contents()
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
