package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"time"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/review"
	"github.com/salesexec/credentials/internal/user"
)

const mediaCSV = "text/csv"

// mostDays bounds ages: a hundred years.
const mostDays = 36500

// ReviewCredentials shows one page of the credential review, or all of it as a file.
func (s *Server) ReviewCredentials(ctx context.Context, request api.ReviewCredentialsRequestObject) (api.ReviewCredentialsResponseObject, error) {
	query, after, limit, err := s.reviewQuery(ctx, request.Params)
	if err != nil {
		return nil, err
	}
	if prefersCSV(ctx) {
		file, err := s.reviewer.Open(ctx, query)
		return reviewFile{ctx: ctx, server: s, file: file, account: query.Account.ID}, err
	}
	long, cancel := unhurried(ctx, trailTime)
	defer cancel()
	summarize := after == "" && (request.Params.Summary == nil || *request.Params.Summary)
	entries, more, summary, err := s.reviewer.Page(long, query, after, limit, summarize)
	if err != nil {
		return nil, err
	}
	shown := api.CredentialReview{Items: make([]api.ReviewedUser, len(entries))}
	for i := range entries {
		shown.Items[i] = reviewed(&entries[i])
	}
	if more {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(entries[len(entries)-1].User.ID))
		shown.NextCursor = &cursor
	}
	if summary != nil {
		shown.Summary = summaryOf(summary, query)
	}
	return reviewPage{shown}, nil
}

// reviewQuery reads the parameters, and says everything that is wrong with them.
func (s *Server) reviewQuery(ctx context.Context, p api.ReviewCredentialsParams) (q review.Query, after user.ID, limit int, err error) {
	account, err := s.credentials.Account(ctx, actorOf(ctx), deref(p.AccountID))
	if err != nil {
		return q, "", 0, err
	}
	q = review.Query{
		Actor: actorOf(ctx), Account: account, Findings: converted[review.Finding](p.Finding), OldDays: review.DefaultOldDays, DormantDays: review.DefaultDormantDays,
		Filter: credential.Filter{Team: user.Team(deref(p.Team)), Role: user.Role(deref(p.Role)), Status: user.Status(deref(p.Status))}, Origin: originOf(ctx),
	}
	for _, days := range []struct {
		given *int
		into  *int
	}{{p.PasswordOlderThanDays, &q.OldDays}, {p.DormantAfterDays, &q.DormantDays}} {
		if days.given != nil {
			*days.into = *days.given
		}
	}
	limit = pageOf(p.Limit)
	cursor, decodeErr := base64.RawURLEncoding.DecodeString(deref(p.Cursor))
	after = user.ID(cursor)
	file := prefersCSV(ctx)
	days := func(n int) bool { return 1 <= n && n <= mostDays }
	unknown := func(f review.Finding) bool { return !slices.Contains(review.Findings(), f) }
	return q, after, limit, parameters{
		{"team", q.Filter.Team == "" || q.Filter.Team.Valid(), "Give a path like /east/boston/."},
		{"role", q.Filter.Role == "" || q.Filter.Role.Valid(), "Use agent or administrator."},
		{"status", q.Filter.Status == "" || q.Filter.Status.Valid(), "Use active or disabled."},
		{"finding", !slices.ContainsFunc(q.Findings, unknown), "Use the findings that openapi.yaml lists."},
		{"password_older_than_days", days(q.OldDays), "Use 1 to 36500."},
		{"dormant_after_days", days(q.DormantDays), "Use 1 to 36500."},
		limitRule(limit),
		{"limit", p.Limit == nil || !file, "A file holds all matching users: leave limit out."},
		{"cursor", decodeErr == nil && (after == "" || after.Valid()), otherCursor},
		{"cursor", p.Cursor == nil || !file, "A file holds all matching users: leave cursor out."},
		{"summary", p.Summary == nil || !file, "A file has no summary: leave it out."},
	}.check()
}

// prefersCSV tells whether the caller asked for a file, and not just as well for JSON.
func prefersCSV(ctx context.Context) bool {
	header, _ := ctx.Value(acceptKey).(string)
	return quality(header, mediaCSV) > quality(header, mediaJSON)
}

func reviewed(e *review.Entry) api.ReviewedUser {
	u := e.User
	shown := api.ReviewedUser{
		UserID: string(u.ID), Username: u.Username, DisplayName: u.DisplayName, Role: api.Role(u.Role), Team: string(u.Team), Status: api.UserStatus(u.Status),
		PasswordChangedAt: timeOrNull(u.Password.ChangedAt), PasswordAgeDays: e.AgeDays, PasswordSetBy: textOrNull(string(u.Password.SetBy)),
		HashScheme: e.Scheme, HashLegacy: e.Legacy, MustChangePassword: u.Password.MustChange, PasswordDisabled: u.Password.DisabledAt != nil,
		LastSignInAt: timeOrNull(u.LastSignInAt), Failures: e.Failures, NamingViolations: make([]api.Violation, len(e.Naming)),
		Places: e.Places, Findings: converted[api.ReviewFinding](e.Findings),
	}
	if e.Places > 0 {
		shown.PlacesAt = timeOrNull(&e.PlacesAt)
	}
	for i, wrong := range e.Naming {
		shown.NamingViolations[i] = api.Violation{Code: api.FieldErrorCode(wrong.Code), Detail: wrong.Detail}
	}
	return shown
}

func summaryOf(s *review.Summary, q review.Query) *api.ReviewSummary {
	shown := &api.ReviewSummary{
		Users: s.Users, Disabled: s.Disabled, MustChangePassword: s.MustChange, PasswordDisabled: s.PasswordDisabled, NoPassword: s.NoPassword,
		PasswordOlderThanDays: q.OldDays, DormantAfterDays: q.DormantDays, MaxPlaces: q.Account.Policy.Places(),
	}
	f := &shown.Findings
	f.OldPassword, f.NeverChanged, f.LegacyHash = s.Findings[review.OldPassword], s.Findings[review.NeverChanged], s.Findings[review.LegacyHash]
	f.Dormant, f.NamingViolation, f.ManyPlaces = s.Findings[review.Dormant], s.Findings[review.NamingViolation], s.Findings[review.ManyPlaces]
	return shown
}

// reviewPage lets an answer be written that took longer than others may.
type reviewPage struct{ api.CredentialReview }

// VisitReviewCredentialsResponse gives the answer a time of its own.
func (p reviewPage) VisitReviewCredentialsResponse(w http.ResponseWriter) error {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(windowTime)) // best effort: a short review needs it not
	return api.ReviewCredentials200JSONResponse(p.CredentialReview).VisitReviewCredentialsResponse(w)
}

// reviewFile is a review on its way out.
type reviewFile struct {
	ctx     context.Context
	server  *Server
	file    *review.File
	account string
}

// VisitReviewCredentialsResponse streams the file.
func (f reviewFile) VisitReviewCredentialsResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Disposition", `attachment; filename="credential-review-`+f.account+`.csv"`)
	f.server.stream(f.ctx, w, mediaCSV+"; charset=utf-8; header=present", f.file)
	return nil
}
