package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/access"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/password"
	"github.com/salesexec/credentials/internal/replay"
	"github.com/salesexec/credentials/internal/session"
	"github.com/salesexec/credentials/internal/signal"
	"github.com/salesexec/credentials/internal/throttle"
)

// kind is one sort of problem: what RFC 9457 calls a problem type. Title and Advice never vary by occurrence.
type kind struct {
	Code   string
	Status int
	Title  string
	Advice string // the usual detail, and the text of the problem's page
}

// kinds lists every problem the service answers with.
func kinds() []kind {
	return []kind{
		{"malformed_request", 400, "The request cannot be read", "Send one JSON object in UTF-8 with the members that the operation knows, each once and not null."},
		{"unauthorized", 401, "A valid access token is needed", "Send a current access token in the Authorization header, after the word Bearer. Refresh the session, or sign in again."},
		{"invalid_credentials", 401, "The username or the password is wrong", "Check both and try again. If it keeps failing, ask your administrator: the account may be disabled, or the password may have to be reset."},
		{"insufficient_scope", 403, "The token lacks a scope", "Ask for a token with the scope named in WWW-Authenticate, if the client has been given it."},
		{"forbidden", 403, "You may not do this", "The operation needs a role or a reach that you do not have."},
		{"wrong_current_password", 403, "The current password is wrong", "Nothing was changed. Enter the password you signed in with. After several wrong ones you have to wait, then to sign in again."},
		{"password_disabled", 403, "The password is disabled", "There were too many failed attempts. Your administrator must reset the password."},
		{"must_change_password", 403, "Choose a new password first", "You signed in with a temporary password. Choose a password of your own with PATCH /users/me/credentials; everything else comes after that."},
		{"use_self_service", 403, "Change your own credentials as a user does", "Use PATCH /users/me/credentials with your current password for yourself."},
		{"not_found", 404, "There is no such thing", "It does not exist, or it is not visible to you."},
		{"method_not_allowed", 405, "The method is not allowed here", "Use one of the methods that the Allow header names."},
		{"identifier_taken", 409, "The name is not available", "It is in use, or held for the user who had it before. Choose another one."},
		{"conflict", 409, "Somebody else changed this at the same time", "Nothing was changed by this request. Read the present state and try again."},
		{"stream_exists", 409, "You have a stream of events already", "There is one stream for each client. Read it, and change it or delete it first."},
		{"too_many_jobs", 409, "The account has too many unfinished jobs", "Wait until one of them is completed, or cancel one. GET /admin/password-resets lists them."},
		{"idempotency_in_progress", 409, "The same request is being carried out", "Wait as many seconds as Retry-After says, and send it again with the same Idempotency-Key."},
		{"last_administrator", 409, "The account would lose its last administrator", "The last active administrator of the whole company cannot be disabled or demoted. Make somebody else an administrator first."},
		{"precondition_failed", 412, "Somebody changed this since you read it", "Nothing was changed. Read it again and decide with the new ETag."},
		{"body_too_large", 413, "The body is too large", "Send at most 16 KiB, or 4 MiB to POST /admin/password-resets."},
		{"unsupported_media_type", 415, "The media type is not supported", "Send application/json in UTF-8 without a content encoding; on PATCH also application/merge-patch+json. POST /oauth/token takes application/x-www-form-urlencoded."},
		{"policy_violation", 422, "The new credentials do not meet the policy", "See errors for every rule that was broken, and GET /password-policy for all of them."},
		{"validation_failed", 422, "Some members are not acceptable", "See errors for each of them."},
		{"idempotency_key_reused", 422, "The Idempotency-Key was used for another request", "Nothing was changed by this request. Make a new key for every request, and use it again only to repeat that very one."},
		{"link_invalid", 422, "The link is not valid, or no longer", "It is unknown, used, expired or void. Ask for a new one."},
		{"throttled", 429, "Too many attempts", "Wait as many seconds as Retry-After says before trying again."},
		{"internal", 500, "Something went wrong on our side", "Try again later. If it stays, report the instance."},
		{"overloaded", 503, "The service is busy", "Wait as many seconds as Retry-After says before trying again."},
		{"unavailable", 503, "The service cannot answer now", "Wait as many seconds as Retry-After says before trying again."},
	}
}

func kindOf(code string) (kind, bool) {
	for _, k := range kinds() {
		if k.Code == code {
			return k, true
		}
	}
	return kind{}, false
}

// codes is the one table from errors to problems, asked from top to bottom. What is not in it is internal.
func codes() []struct {
	err  error
	code string
} {
	return []struct {
		err  error
		code string
	}{
		{errMediaType, "unsupported_media_type"},
		{errEncoding, "unsupported_media_type"},
		{errTooLarge, "body_too_large"},
		{access.ErrUnauthenticated, "unauthorized"},
		{access.ErrInsufficientScope, "insufficient_scope"},
		{access.ErrForbidden, "forbidden"},
		{access.ErrMustChangePassword, "must_change_password"},
		{session.ErrInvalidToken, "unauthorized"},
		{session.ErrNoSession, "not_found"},
		{session.ErrInvalidCredentials, "invalid_credentials"},
		{credential.ErrNotFound, "not_found"},
		{audit.ErrNoTrail, "not_found"},
		{credential.ErrForbidden, "forbidden"},
		{credential.ErrUseSelfService, "use_self_service"},
		{credential.ErrWrongCurrentPassword, "wrong_current_password"},
		{credential.ErrPasswordDisabled, "password_disabled"},
		{credential.ErrMustChangePassword, "must_change_password"},
		{change.ErrIdentifierTaken, "identifier_taken"},
		{change.ErrLinkInvalid, "link_invalid"},
		{change.ErrTooManyJobs, "too_many_jobs"},
		{change.ErrVersion, "precondition_failed"},
		{signal.ErrNotFound, "not_found"},
		{signal.ErrExists, "stream_exists"},
		{change.ErrConflict, "conflict"},
		{change.ErrUserExists, "conflict"},
		{change.ErrLastAdministrator, "last_administrator"},
		{replay.ErrInProgress, "idempotency_in_progress"},
		{replay.ErrReused, "idempotency_key_reused"},
		{throttle.ErrBusy, "overloaded"},
		{session.ErrUnsettled, "unavailable"},
		{change.ErrUnavailable, "unavailable"},
		{context.DeadlineExceeded, "unavailable"},
		{context.Canceled, "unavailable"}, // the caller hung up, or only closed its half: nothing was done, and it must hear so
	}
}

// answer is a problem on its way out.
type answer struct {
	kind       kind
	detail     string
	fields     []change.FieldError
	retryAfter time.Duration
}

// retrySoon is the Retry-After of a 503, or of a request that runs already, whose cause names no time.
const retrySoon = time.Second

// answerTo turns an error into a problem.
func answerTo(err error) answer {
	if rejected, ok := errors.AsType[*change.RejectedError](err); ok {
		code := "validation_failed"
		if rejected.Policy {
			code = "policy_violation"
		}
		return answer{kind: mustKind(code), fields: rejected.Fields}
	}
	if malformed, ok := errors.AsType[*malformedError](err); ok {
		return answer{kind: mustKind("malformed_request"), detail: malformed.detail}
	}
	if invalid, ok := errors.AsType[*signal.InvalidError](err); ok {
		return answer{kind: mustKind("malformed_request"), detail: invalid.Detail}
	}
	if errors.Is(err, io.EOF) {
		return answer{kind: mustKind("malformed_request"), detail: "The body is empty: send one JSON object."}
	}
	if delayed, ok := errors.AsType[*throttle.DelayedError](err); ok {
		return answer{kind: mustKind("throttled"), retryAfter: delayed.RetryAfter}
	}
	if overloaded, ok := errors.AsType[*password.OverloadedError](err); ok {
		return answer{kind: mustKind("overloaded"), retryAfter: overloaded.RetryAfter}
	}
	if framework, ok := errors.AsType[*echo.HTTPError](err); ok {
		return answer{kind: mustKind(frameworkCode(framework.Code)), detail: parameterDetail(framework)}
	}
	for _, known := range codes() {
		if errors.Is(err, known.err) {
			a := answer{kind: mustKind(known.code)}
			if a.kind.Status == http.StatusServiceUnavailable || a.kind.Code == "idempotency_in_progress" {
				a.retryAfter = retrySoon
			}
			return a
		}
	}
	return answer{kind: mustKind("internal")}
}

func mustKind(code string) kind {
	k, ok := kindOf(code)
	if !ok {
		k, _ = kindOf("internal")
	}
	return k
}

// unreadParameter is how the generated parsing tells of a parameter that is not of its type; the name is the contract's.
var unreadParameter = regexp.MustCompile(`^Invalid format for parameter ([A-Za-z_-]+):`)

// parameterDetail names the parameter that could not be read, and never its value; "" when it was something else.
func parameterDetail(framework *echo.HTTPError) string {
	text, _ := framework.Message.(string)
	found := unreadParameter.FindStringSubmatch(text)
	if framework.Code != http.StatusBadRequest || found == nil {
		return ""
	}
	return "The parameter " + found[1] + " is not of the form that openapi.yaml gives it."
}

// frameworkCode names what Echo's router and the generated parameter parsing refuse; their texts stay inside.
func frameworkCode(status int) string {
	switch status {
	case http.StatusNotFound:
		return "not_found"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusRequestEntityTooLarge:
		return "body_too_large"
	case http.StatusUnsupportedMediaType:
		return "unsupported_media_type"
	case http.StatusBadRequest:
		return "malformed_request"
	}
	return "internal"
}

// problemType is the prefix of every problem's type.
const problemType = "urn:salesexec:problem:"

// errorHandler is the only place that writes errors. Echo may call it twice for one request.
func (s *Server) errorHandler(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	a := answerTo(err)
	ctx := c.Request().Context()
	if a.kind.Code == "internal" {
		s.log.ErrorContext(ctx, "a request failed", "request_id", originOf(ctx).RequestID, "route", c.Path(), "error", err.Error())
	}
	s.challenge(c, err, a)
	header := c.Response().Header()
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int((a.retryAfter+time.Second-1)/time.Second)))
	}
	if a.kind.Status == http.StatusUnsupportedMediaType {
		refusedMedia(c, err)
	}
	if err := writeProblem(c, a); err != nil {
		s.log.DebugContext(ctx, "a problem could not be sent", slog.String("request_id", originOf(ctx).RequestID))
	}
}

func refusedMedia(c echo.Context, err error) {
	header := c.Response().Header()
	switch {
	case errors.Is(err, errEncoding):
		header.Set("Accept-Encoding", "identity")
	case errors.Is(err, errNotForm):
		header.Set("Accept", mediaForm)
	case c.Request().Method == http.MethodPatch:
		header.Set("Accept-Patch", patches)
	default:
		header.Set("Accept", mediaJSON)
	}
}

// challenge adds WWW-Authenticate to every 401, and to a missing scope (RFC 6750 section 3). The error code is there only
// when a token was sent.
func (s *Server) challenge(c echo.Context, err error, a answer) {
	challenge := `Bearer realm="salesexec"`
	switch {
	case errors.Is(err, errTwoTokens):
		challenge += `, error="invalid_request", error_description="Send one Authorization header"`
	case errors.Is(err, session.ErrInvalidToken) && c.Request().Header.Get("Authorization") != "":
		challenge += `, error="invalid_token", error_description="The token is not valid, or no longer"`
	case a.kind.Code == "insufficient_scope":
		challenge += `, error="insufficient_scope", scope="` + lackingScope(c, err) + `"`
	case a.kind.Status != http.StatusUnauthorized:
		return
	}
	c.Response().Header().Set("WWW-Authenticate", challenge)
}

// lackingScope names the scope that would help: of a service's token the operation's, of another issuer's the one it must
// always have.
func lackingScope(c echo.Context, err error) string {
	if lacking, ok := errors.AsType[*session.ScopeError](err); ok {
		return lacking.Scope
	}
	rule, _ := c.Get(ruleKey).(access.Rule)
	return rule.Scope
}

func writeProblem(c echo.Context, a answer) error {
	detail := a.detail
	if detail == "" {
		detail = a.kind.Advice
	}
	problem := api.Problem{
		Type: problemType + a.kind.Code, Title: a.kind.Title, Status: a.kind.Status, Code: api.ProblemCode(a.kind.Code),
		Detail: &detail, Instance: "urn:request:" + originOf(c.Request().Context()).RequestID,
	}
	if a.fields != nil {
		fields := make([]api.FieldError, len(a.fields))
		for i, f := range a.fields {
			fields[i] = api.FieldError{Pointer: f.Pointer, Code: api.FieldErrorCode(f.Code), Detail: f.Detail}
		}
		problem.Errors = fields
	}
	body, err := json.Marshal(problem)
	if err != nil {
		return err
	}
	return c.Blob(a.kind.Status, "application/problem+json", body)
}
