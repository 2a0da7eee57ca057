package notice

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mailbox is the Transport of development: mails stay on this machine, one file each in a folder, where people and tests
// read them. It is for development alone: whoever reads the folder can use the links.
type Mailbox struct{ folder string }

var _ Transport = (*Mailbox)(nil)

// OpenMailbox returns the mailbox in a folder, which is made if need be. What is in it from before stays.
func OpenMailbox(folder string) (*Mailbox, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("notice: make the mailbox: %w", err)
	}
	return &Mailbox{folder: folder}, nil
}

// suffix ends the names of whole mails; one that is being written has another.
const suffix = ".json"

// Send puts a mail into the folder. One that is there already, by its ID, is replaced: there are never two of them.
func (b *Mailbox) Send(_ context.Context, mail Mail) error {
	content, err := json.MarshalIndent(mail, "", "  ")
	if err != nil {
		return fmt.Errorf("notice: write a mail: %w", err)
	}
	path := filepath.Join(b.folder, atom(mail.ID))
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return fmt.Errorf("notice: write a mail: %w", err)
	}
	if err := os.Rename(path+".new", path+suffix); err != nil {
		return fmt.Errorf("notice: write a mail: %w", err)
	}
	return nil
}

// Mails returns every mail, the newest first.
func (b *Mailbox) Mails() ([]Mail, error) {
	entries, err := os.ReadDir(b.folder)
	if err != nil {
		return nil, fmt.Errorf("notice: list the mailbox: %w", err)
	}
	var mails []Mail
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), suffix) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(b.folder, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("notice: read a mail: %w", err)
		}
		var mail Mail
		if err := json.Unmarshal(content, &mail); err != nil {
			return nil, fmt.Errorf("notice: %s in the mailbox is no mail: %w", entry.Name(), err)
		}
		mails = append(mails, mail)
	}
	slices.SortFunc(mails, func(a, b Mail) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(b.ID, a.ID)) })
	return mails, nil
}

// atom makes of a message's id what can name a file and stand before the @ of a Message-ID (RFC 5322 section 3.2.3).
func atom(id string) string {
	return strings.Trim(strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '='
	}, id), "=")
}
