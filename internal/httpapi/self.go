package httpapi

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/user"
)

// SignIn opens a session.
func (s *Server) SignIn(ctx context.Context, request api.SignInRequestObject) (api.SignInResponseObject, error) {
	tokens, err := s.sessions.SignIn(ctx, request.Body.Username, request.Body.Password, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.SignIn201JSONResponse(s.sessionTokens(tokens)), nil
}

// RefreshSession gives new tokens for a refresh token.
func (s *Server) RefreshSession(ctx context.Context, request api.RefreshSessionRequestObject) (api.RefreshSessionResponseObject, error) {
	tokens, err := s.sessions.Refresh(ctx, request.Body.RefreshToken, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.RefreshSession200JSONResponse(s.sessionTokens(tokens)), nil
}

func (s *Server) sessionTokens(tokens session.Tokens) api.SessionTokens {
	return api.SessionTokens{
		AccessToken: tokens.Access.Reveal(), TokenType: api.SessionTokensTokenTypeBearer, ExpiresIn: s.secondsUntil(tokens.AccessExpiresAt),
		RefreshToken: tokens.Refresh.Reveal(), SessionID: tokens.SessionID, MustChangePassword: tokens.MustChangePassword,
	}
}

func (s *Server) secondsUntil(t time.Time) int {
	return int(t.Sub(s.config.Now()).Round(time.Second) / time.Second)
}

// SignOut ends the session of the token.
func (s *Server) SignOut(ctx context.Context, _ api.SignOutRequestObject) (api.SignOutResponseObject, error) {
	if err := s.sessions.SignOut(ctx, actorOf(ctx), originOf(ctx)); err != nil {
		return nil, err
	}
	return api.SignOut204Response{}, nil
}

// GetMe tells who is signed in.
func (s *Server) GetMe(ctx context.Context, _ api.GetMeRequestObject) (api.GetMeResponseObject, error) {
	actor := actorOf(ctx)
	u := actor.User
	return api.GetMe200JSONResponse{
		Body: api.Me{
			ID: string(u.ID), AccountID: u.AccountID, Team: string(u.Team), Role: api.Role(actor.Role), AlsoManages: teams(u),
			DisplayName: u.DisplayName, Status: api.UserStatus(u.Status), Username: u.Username, Email: textOrNull(u.Email),
			EmailVerified: u.EmailVerified, MustChangePassword: actor.MustChangePassword, Version: u.Version,
			LastSignInAt: u.LastSignInAt, SessionID: textOrNull(actor.SessionID), AuthTime: authTime(actor),
		},
		Headers: api.GetMe200ResponseHeaders{ETag: etag(u)},
	}, nil
}

// GetMyCredentials shows the own credentials.
func (s *Server) GetMyCredentials(ctx context.Context, _ api.GetMyCredentialsRequestObject) (api.GetMyCredentialsResponseObject, error) {
	u := actorOf(ctx).User
	return api.GetMyCredentials200JSONResponse{Body: s.credentialsOf(u), Headers: api.GetMyCredentials200ResponseHeaders{ETag: etag(u)}}, nil
}

// ChangeMyCredentials changes the own username, e-mail and password, all or none.
func (s *Server) ChangeMyCredentials(ctx context.Context, request api.ChangeMyCredentialsRequestObject) (api.ChangeMyCredentialsResponseObject, error) {
	reply := newReply(s.changedAnswer, api.ChangeMyCredentialsResponseObject.VisitChangeMyCredentialsResponse)
	changed, err := s.credentials.ChangeOwn(ctx, actorOf(ctx), credential.ChangeOwn{
		Username: request.Body.Username, Email: request.Body.Email, NewPassword: request.Body.NewPassword,
		CurrentPassword: request.Body.CurrentPassword, IfMatch: precondition(request.Params.IfMatch), Origin: originOf(ctx), Keep: reply.keep(ctx),
	})
	if err != nil {
		return nil, err
	}
	return reply.to(changed), nil
}

func (s *Server) changedAnswer(changed credential.Changed) api.ChangeMyCredentialsResponseObject {
	c := s.credentialsOf(changed.User)
	body := api.ChangedCredentials{
		UserID: c.UserID, Username: c.Username, Email: c.Email, EmailVerified: c.EmailVerified, PendingEmail: c.PendingEmail,
		PasswordChangedAt: c.PasswordChangedAt, MustChangePassword: c.MustChangePassword, Version: c.Version,
	}
	if changed.Tokens != nil {
		tokens, bearer := s.sessionTokens(*changed.Tokens), api.ChangedCredentialsTokenTypeBearer
		body.AccessToken, body.TokenType, body.ExpiresIn = &tokens.AccessToken, &bearer, &tokens.ExpiresIn
		body.RefreshToken, body.SessionID = &tokens.RefreshToken, &tokens.SessionID
	}
	return api.ChangeMyCredentials200JSONResponse{Body: body, Headers: api.ChangeMyCredentials200ResponseHeaders{ETag: etag(changed.User)}}
}

func (s *Server) credentialsOf(u user.User) api.Credentials {
	return api.Credentials{
		UserID: string(u.ID), Username: u.Username, Email: textOrNull(u.Email), EmailVerified: u.EmailVerified,
		PendingEmail: textOrNull(u.Pending.At(s.config.Now())), PasswordChangedAt: timeOrNull(u.Password.ChangedAt), MustChangePassword: u.Password.MustChange, Version: u.Version,
	}
}

func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// timeOrNull shows a time in UTC.
func timeOrNull(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC().Truncate(time.Microsecond)
	return &utc
}

// authTime is null for a token of another issuer that does not say when its user signed in.
func authTime(actor access.Actor) *time.Time {
	if actor.SignedInAt.IsZero() {
		return nil
	}
	return timeOrNull(&actor.SignedInAt)
}

func teams(u user.User) []string {
	names := make([]string, len(u.AlsoManages))
	for i, team := range u.AlsoManages {
		names[i] = string(team)
	}
	return names
}

func etag(u user.User) string { return versionTag(u.Version) }

// precondition reads If-Match (RFC 9110 section 13.1.1): "*" and an absent header accept any version; a weak tag, or one
// that is no version, matches none.
func precondition(header *string) credential.Precondition {
	if header == nil || strings.TrimSpace(*header) == "*" {
		return nil
	}
	accepted := credential.Precondition{}
	for tag := range strings.SplitSeq(*header, ",") {
		quoted := strings.TrimSpace(tag)
		number, ok := strings.CutPrefix(quoted, `"`)
		number, closed := strings.CutSuffix(number, `"`)
		version, err := strconv.ParseInt(number, 10, 64)
		if ok && closed && err == nil && number == strconv.FormatInt(version, 10) {
			accepted = append(accepted, version)
		}
	}
	return accepted
}
