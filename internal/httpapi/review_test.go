package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/review"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/throttle"
	"github.com/salesexec/credentials/internal/user"
)

// A review that breaks off is a broken connection as well.
func TestReviewFile_isCutOff(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	store := &vanishing{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		describe := func(string) (string, bool) { return "none", false }
		file, err := review.New(store, describe, time.Now).Open(r.Context(), review.Query{Account: user.Account{ID: "demo"}})
		if err != nil {
			t.Error(err)
			return
		}
		if err := (reviewFile{ctx: r.Context(), server: s, file: file, account: "demo"}).VisitReviewCredentialsResponse(w); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	answer, err := server.Client().Get(server.URL)
	if err != nil {
		return // cut off before the first line
	}
	defer func() { _ = answer.Body.Close() }()
	if text, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("it looks whole: %d bytes", len(text))
	}
}

// vanishing has one window of users, and then is away.
type vanishing struct {
	review.Store
	windows int
}

func (v *vanishing) Members(_ context.Context, _ access.Actor, _ credential.Filter, _ user.ID, limit int) ([]session.Member, error) {
	if v.windows++; v.windows > 1 {
		return nil, errors.New("away")
	}
	members := make([]session.Member, limit)
	for i := range members {
		members[i].User.ID = user.ID(fmt.Sprintf("user-%04d", i))
	}
	return members, nil
}

func (v *vanishing) Standings(context.Context, []string) (map[string]throttle.Standing, error) {
	return map[string]throttle.Standing{}, nil
}

func (v *vanishing) Uses(context.Context, []user.ID, func(user.ID, time.Time, string)) error {
	return nil
}

func (v *vanishing) Commit(context.Context, change.Change) (change.Result, error) {
	return change.Result{}, nil
}
