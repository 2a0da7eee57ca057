package httpapi

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// Bounds of a page (api.md).
const (
	defaultPage = 50
	largestPage = 200
)

// ListUsers lists the users that the caller manages.
func (s *Server) ListUsers(ctx context.Context, request api.ListUsersRequestObject) (api.ListUsersResponseObject, error) {
	filter, after, limit, err := listing(request.Params)
	if err != nil {
		return nil, err
	}
	members, more, err := s.credentials.List(ctx, actorOf(ctx), filter, after, limit)
	if err != nil {
		return nil, err
	}
	users := make([]user.User, len(members))
	for i, member := range members {
		users[i] = member.User
	}
	items, err := s.usersOf(ctx, users)
	if err != nil {
		return nil, err
	}
	list := api.UserList{Items: items}
	if more {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(users[len(users)-1].ID))
		list.NextCursor = &cursor
	}
	return api.ListUsers200JSONResponse(list), nil
}

// listing reads the parameters of a list, and says everything that is wrong with them.
func listing(p api.ListUsersParams) (f credential.Filter, after user.ID, limit int, err error) {
	f = credential.Filter{
		Query: deref(p.Query), Team: user.Team(deref(p.Team)), Status: user.Status(deref(p.Status)), Role: user.Role(deref(p.Role)),
		MustChange: p.MustChange, Locked: p.Locked,
	}
	limit = pageOf(p.Limit)
	cursor, decodeErr := base64.RawURLEncoding.DecodeString(deref(p.Cursor))
	after = user.ID(cursor)
	return f, after, limit, parameters{
		limitRule(limit),
		{"query", utf8.ValidString(f.Query) && !strings.ContainsRune(f.Query, 0), "Use text in UTF-8 without the character U+0000."}, // no database text holds it
		{"team", f.Team == "" || f.Team.Valid(), "Give a path like /east/boston/."},
		{"status", f.Status == "" || f.Status.Valid(), "Use active or disabled."},
		{"role", f.Role == "" || f.Role.Valid(), "Use agent or administrator."},
		{"cursor", decodeErr == nil && (after == "" || after.Valid()), otherCursor},
	}.check()
}

// parameter is what is asked of one parameter of a query.
type parameter struct {
	name   string
	good   bool
	detail string
}

type parameters []parameter

// check says everything that is wrong.
func (p parameters) check() error {
	var wrong []change.FieldError
	for _, rule := range p {
		if !rule.good {
			wrong = append(wrong, change.FieldError{Pointer: "/" + rule.name, Code: "invalid", Detail: rule.detail})
		}
	}
	if wrong == nil {
		return nil
	}
	return &change.RejectedError{Fields: wrong}
}

// otherCursor is the guidance for a cursor that was not made by the list.
const otherCursor = "Use the next_cursor of the page before."

func pageOf(limit *int) int {
	if limit == nil {
		return defaultPage
	}
	return *limit
}

func limitRule(limit int) parameter {
	return parameter{"limit", 1 <= limit && limit <= largestPage, "Use 1 to " + strconv.Itoa(largestPage) + "."}
}

func deref[T ~string](p *T) T {
	if p == nil {
		return ""
	}
	return *p
}

// GetUser shows a user and why a sign-in fails.
func (s *Server) GetUser(ctx context.Context, request api.GetUserRequestObject) (api.GetUserResponseObject, error) {
	member, err := s.credentials.Visible(ctx, actorOf(ctx), user.ID(request.ID))
	if err != nil {
		return nil, err
	}
	shown, err := s.usersOf(ctx, []user.User{member.User})
	if err != nil {
		return nil, err
	}
	attempts, err := s.credentials.Attempts(ctx, member.User)
	if err != nil {
		return nil, err
	}
	shown[0].SignIn.Recent = attemptsOf(attempts)
	return api.GetUser200JSONResponse{Body: shown[0], Headers: api.GetUser200ResponseHeaders{ETag: etag(member.User)}}, nil
}

func (s *Server) usersOf(ctx context.Context, users []user.User) ([]api.User, error) {
	states, err := s.sessions.States(ctx, users)
	if err != nil {
		return nil, err
	}
	shown := make([]api.User, len(users))
	for i, u := range users {
		shown[i] = s.userOf(u, states[u.ID])
	}
	return shown, nil
}

func (s *Server) userOf(u user.User, state session.State) api.User {
	return api.User{
		ID: string(u.ID), AccountID: u.AccountID, Team: string(u.Team), Role: api.Role(u.Role), AlsoManages: teams(u),
		DisplayName: u.DisplayName, Status: api.UserStatus(u.Status), Username: u.Username, Email: textOrNull(u.Email),
		EmailVerified: u.EmailVerified, PendingEmail: textOrNull(u.Pending.At(s.config.Now())), MustChangePassword: u.Password.MustChange, Version: u.Version,
		PasswordChangedAt: timeOrNull(u.Password.ChangedAt), TemporaryPasswordExpiresAt: timeOrNull(u.Password.TemporaryUntil),
		LastSignInAt: u.LastSignInAt, CreatedAt: u.CreatedAt, SignIn: signInState(state),
	}
}

func signInState(state session.State) api.SignInState {
	reasons := make([]api.SignInReason, len(state.Reasons))
	for i, r := range state.Reasons {
		reasons[i] = api.SignInReason{Code: api.SignInReasonCode(r.Code), Detail: r.Detail}
	}
	return api.SignInState{CanSignIn: state.CanSignIn, Reasons: reasons, LockedUntil: state.LockedUntil, ConsecutiveFailures: state.Failures}
}

// GetUsernameHistory lists the names a user has had.
func (s *Server) GetUsernameHistory(ctx context.Context, request api.GetUsernameHistoryRequestObject) (api.GetUsernameHistoryResponseObject, error) {
	names, err := s.credentials.UsernameHistory(ctx, actorOf(ctx), user.ID(request.ID))
	if err != nil {
		return nil, err
	}
	items := make([]api.HeldUsername, len(names))
	for i, held := range names {
		items[i] = api.HeldUsername{
			Username: held.Username, HeldFrom: held.From, HeldUntil: held.Until,
			ChangedBy: api.ChangedBy{Kind: changedBy(held.By, request.ID), ID: held.By.ID, Name: held.By.Name},
		}
	}
	return api.GetUsernameHistory200JSONResponse{Items: items}, nil
}

func changedBy(by audit.Party, id string) api.ChangedByKind {
	switch {
	case by.Kind == access.Service:
		return api.ChangedByKindService
	case by.Kind != access.Person:
		return api.ChangedByKindSystem
	case by.ID == id:
		return api.ChangedByKindSelf
	}
	return api.ChangedByKindAdministrator
}

// ChangeUserCredentials changes a user's username and e-mail.
func (s *Server) ChangeUserCredentials(ctx context.Context, request api.ChangeUserCredentialsRequestObject) (api.ChangeUserCredentialsResponseObject, error) {
	reply := newReply(func(changed user.User) api.ChangeUserCredentialsResponseObject {
		return api.ChangeUserCredentials200JSONResponse{
			Body: s.credentialsOf(changed), Headers: api.ChangeUserCredentials200ResponseHeaders{ETag: etag(changed)},
		}
	}, api.ChangeUserCredentialsResponseObject.VisitChangeUserCredentialsResponse)
	changed, err := s.credentials.ChangeAnother(ctx, actorOf(ctx), user.ID(request.ID), credential.ChangeAnother{
		Username: request.Body.Username, Email: request.Body.Email, Reason: deref(request.Body.Reason),
		IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx), Keep: reply.keep(ctx),
	})
	if err != nil {
		return nil, err
	}
	return reply.to(changed), nil
}

// ResetPassword replaces a user's password.
func (s *Server) ResetPassword(ctx context.Context, request api.ResetPasswordRequestObject) (api.ResetPasswordResponseObject, error) {
	reply := newReply(resetAnswer, api.ResetPasswordResponseObject.VisitResetPasswordResponse)
	wanted := credential.Reset{IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx), Keep: reply.keep(ctx)}
	if body := request.Body; body != nil {
		wanted.Method, wanted.NewPassword, wanted.Reason = user.ResetMethod(deref(body.Method)), body.NewPassword, deref(body.Reason)
		wanted.DisableNow = body.DisableNow != nil && *body.DisableNow
	}
	done, err := s.credentials.Reset(ctx, actorOf(ctx), user.ID(request.ID), wanted)
	if err != nil {
		return nil, err
	}
	return reply.to(done), nil
}

func resetAnswer(done credential.ResetDone) api.ResetPasswordResponseObject {
	result := api.PasswordResetResult{
		UserID: string(done.User.ID), Username: done.User.Username, Method: api.ResetMethod(done.Method), ExpiresAt: timeOrNull(&done.ExpiresAt),
		MustChangePassword: done.User.Password.MustChange, SessionsEnded: done.SessionsEnded, Status: api.UserStatus(done.User.Status),
	}
	if !done.TemporaryPassword.Empty() {
		shown := done.TemporaryPassword.Reveal()
		result.TemporaryPassword = &shown
	}
	return api.ResetPassword200JSONResponse{Body: result, Headers: api.ResetPassword200ResponseHeaders{ETag: etag(done.User)}}
}

// LockUser ends everything of a user for a security concern.
func (s *Server) LockUser(ctx context.Context, request api.LockUserRequestObject) (api.LockUserResponseObject, error) {
	reply := newReply(func(locked credential.Applied) api.LockUserResponseObject {
		return api.LockUser200JSONResponse{
			Body: api.SecurityLockResult{
				UserID: string(locked.User.ID), Username: locked.User.Username, SessionsEnded: locked.SessionsEnded,
				PasswordDisabled: locked.User.Password.DisabledAt != nil,
			},
			Headers: api.LockUser200ResponseHeaders{ETag: etag(locked.User)},
		}
	}, api.LockUserResponseObject.VisitLockUserResponse)
	locked, err := s.credentials.SecurityLock(ctx, actorOf(ctx), user.ID(request.ID), credential.SecurityLock{
		Reason: request.Body.Reason, IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx), Keep: reply.keep(ctx),
	})
	if err != nil {
		return nil, err
	}
	return reply.to(locked), nil
}
