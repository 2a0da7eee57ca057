package httpapi

import (
	"context"
	"maps"
	"slices"

	"github.com/salesexec/credentials/api"
	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/bulk"
	"github.com/salesexec/credentials/internal/change"
	"github.com/salesexec/credentials/internal/credential"
	"github.com/salesexec/credentials/internal/user"
)

// jobsPath is where jobs are.
const jobsPath = "/admin/password-resets"

// BeginPasswordResetJob begins a job that resets many users, or tells what it would do.
func (s *Server) BeginPasswordResetJob(ctx context.Context, request api.BeginPasswordResetJobRequestObject) (api.BeginPasswordResetJobResponseObject, error) {
	wanted := wantedJob(ctx, request)
	if request.Body.DryRun != nil && *request.Body.DryRun {
		return s.previewJob(ctx, wanted, request.Params)
	}
	if request.Params.Cursor != nil || request.Params.Limit != nil {
		return nil, parameters{{"dry_run", false, "A cursor or a limit goes with dry_run only."}}.check()
	}
	reply := newReply(func(begun bulk.Job) api.BeginPasswordResetJobResponseObject {
		return api.BeginPasswordResetJob202JSONResponse{
			Body: jobOf(begun), Headers: api.BeginPasswordResetJob202ResponseHeaders{Location: jobsPath + "/" + begun.ID},
		}
	}, api.BeginPasswordResetJobResponseObject.VisitBeginPasswordResetJobResponse)
	wanted.Keep = reply.keep(ctx)
	job, err := s.jobs.Begin(ctx, actorOf(ctx), wanted)
	if err != nil {
		return nil, err
	}
	return reply.to(job), nil
}

func wantedJob(ctx context.Context, request api.BeginPasswordResetJobRequestObject) bulk.Wanted {
	body := request.Body
	wanted := bulk.Wanted{
		AccountID: deref(request.Params.AccountID), Method: user.ResetMethod(deref(body.Method)), Reason: body.Reason, Origin: originOf(ctx),
	}
	if body.UserIds != nil {
		wanted.Selection.UserIDs = make([]user.ID, len(body.UserIds))
		for i, id := range body.UserIds {
			wanted.Selection.UserIDs[i] = user.ID(id)
		}
	}
	if f := body.Filter; f != nil {
		wanted.Selection.Filter = &credential.Filter{
			Query: deref(f.Query), Team: user.Team(deref(f.Team)), Status: user.Status(deref(f.Status)), Role: user.Role(deref(f.Role)),
			MustChange: f.MustChange, Locked: f.Locked,
		}
	}
	return wanted
}

func (s *Server) previewJob(ctx context.Context, wanted bulk.Wanted, params api.BeginPasswordResetJobParams) (api.BeginPasswordResetJobResponseObject, error) {
	after, limit, err := page(params.Cursor, params.Limit, userPosition)
	if err != nil {
		return nil, err
	}
	preview, err := s.jobs.Preview(ctx, actorOf(ctx), wanted, after, limit)
	if err != nil {
		return nil, err
	}
	shown := api.PasswordResetJobPreview{Items: make([]api.PasswordResetForeseen, len(preview.Users))}
	if c := preview.Counts; c != nil {
		shown.Summary = countsOf(*c)
	}
	for i, u := range preview.Users {
		shown.Items[i] = api.PasswordResetForeseen{UserID: string(u.UserID), Username: textOrNull(u.Username), WouldReset: u.Code == "", Code: textOrNull(u.Code)}
	}
	if preview.More {
		shown.NextCursor = cursor(string(preview.Users[len(preview.Users)-1].UserID))
	}
	return api.BeginPasswordResetJob200JSONResponse(shown), nil
}

func countsOf(c bulk.Counts) *api.PasswordResetJobSummary {
	summary := api.PasswordResetJobSummary{Total: c.Total, Skipped: []api.PasswordResetsSkipped{}}
	for _, code := range slices.Sorted(maps.Keys(c.WouldSkip)) {
		summary.Skipped = append(summary.Skipped, api.PasswordResetsSkipped{Code: api.PasswordResetJobCode(code), Users: c.WouldSkip[code]})
		summary.WouldSkip += c.WouldSkip[code]
	}
	summary.WouldReset = summary.Total - summary.WouldSkip
	return &summary
}

// userPosition reads a cursor that is the id of a user, or of what is named like one.
func userPosition(text string) (user.ID, bool) { return user.ID(text), user.ID(text).Valid() }

func jobOf(job bulk.Job) api.PasswordResetJob {
	return api.PasswordResetJob{
		ID: job.ID, AccountID: job.AccountID, Status: api.PasswordResetJobStatus(job.Status), Method: api.ResetMethod(job.Method), Reason: job.Reason,
		BegunBy: partyOf(job.Begun), CreatedAt: job.CreatedAt, StartedAt: job.StartedAt, FinishedAt: job.FinishedAt,
		Total: job.Items.Total, Done: job.Items.Done, Skipped: job.Items.Skipped, Failed: job.Items.Failed, Cancelled: job.Items.Cancelled,
		PasswordsWaiting: job.Passwords,
	}
}

func partyOf(p audit.Party) api.AuditParty {
	kind := api.AuditPartyKind(p.Kind)
	return api.AuditParty{Kind: &kind, ID: textOrNull(p.ID), Username: textOrNull(p.Username), Name: textOrNull(p.Name)}
}

// ListPasswordResetJobs lists jobs.
func (s *Server) ListPasswordResetJobs(ctx context.Context, request api.ListPasswordResetJobsRequestObject) (api.ListPasswordResetJobsResponseObject, error) {
	before, limit, err := page(request.Params.Cursor, request.Params.Limit, userPosition)
	if err != nil {
		return nil, err
	}
	jobs, more, err := s.jobs.List(ctx, actorOf(ctx), deref(request.Params.AccountID), string(before), limit)
	if err != nil {
		return nil, err
	}
	list := api.PasswordResetJobList{Items: make([]api.PasswordResetJob, len(jobs))}
	for i, job := range jobs {
		list.Items[i] = jobOf(job)
	}
	if more {
		list.NextCursor = cursor(jobs[len(jobs)-1].ID)
	}
	return api.ListPasswordResetJobs200JSONResponse(list), nil
}

// GetPasswordResetJob shows how far a job is.
func (s *Server) GetPasswordResetJob(ctx context.Context, request api.GetPasswordResetJobRequestObject) (api.GetPasswordResetJobResponseObject, error) {
	job, err := s.jobs.Job(ctx, actorOf(ctx), request.Job)
	if err != nil {
		return nil, err
	}
	return api.GetPasswordResetJob200JSONResponse(jobOf(job)), nil
}

// ListPasswordResetJobResults lists what came of each user of a job.
func (s *Server) ListPasswordResetJobResults(ctx context.Context, request api.ListPasswordResetJobResultsRequestObject) (api.ListPasswordResetJobResultsResponseObject, error) {
	after, limit, err := page(request.Params.Cursor, request.Params.Limit, userPosition)
	if err != nil {
		return nil, err
	}
	state := change.ItemState(deref(request.Params.State))
	if err := (parameters{{"state", state == "" || slices.Contains(change.ItemStates(), state), "Use one of the states that openapi.yaml lists."}}).check(); err != nil {
		return nil, err
	}
	items, more, err := s.jobs.Results(ctx, actorOf(ctx), request.Job, state, after, limit)
	if err != nil {
		return nil, err
	}
	list := api.PasswordResetJobResults{Items: make([]api.PasswordResetJobResult, len(items))}
	for i, item := range items {
		list.Items[i] = api.PasswordResetJobResult{
			UserID: string(item.UserID), Username: textOrNull(item.Username), State: api.PasswordResetJobState(item.State), Code: textOrNull(item.Code),
			SettledAt: item.SettledAt, ExpiresAt: item.ExpiresAt, HandedOutAt: item.HandedOutAt,
		}
	}
	if more {
		list.NextCursor = cursor(string(items[len(items)-1].UserID))
	}
	return api.ListPasswordResetJobResults200JSONResponse(list), nil
}

// CancelPasswordResetJob ends a job.
func (s *Server) CancelPasswordResetJob(ctx context.Context, request api.CancelPasswordResetJobRequestObject) (api.CancelPasswordResetJobResponseObject, error) {
	job, err := s.jobs.Cancel(ctx, actorOf(ctx), request.Job, originOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.CancelPasswordResetJob200JSONResponse(jobOf(job)), nil
}

// HandOutTemporaryPasswords answers temporary passwords of a job, each once.
func (s *Server) HandOutTemporaryPasswords(ctx context.Context, request api.HandOutTemporaryPasswordsRequestObject) (api.HandOutTemporaryPasswordsResponseObject, error) {
	limit := pageOf(request.Params.Limit)
	if err := (parameters{limitRule(limit)}).check(); err != nil {
		return nil, err
	}
	reply := newReply(handoutAnswer, api.HandOutTemporaryPasswordsResponseObject.VisitHandOutTemporaryPasswordsResponse)
	handed, err := s.jobs.HandOut(ctx, actorOf(ctx), request.Job, bulk.Handing{Limit: limit, Origin: originOf(ctx), Keep: reply.keep(ctx)})
	if err != nil {
		return nil, err
	}
	return reply.to(handed), nil
}

func handoutAnswer(handed bulk.Handout) api.HandOutTemporaryPasswordsResponseObject {
	list := api.TemporaryPasswords{Items: make([]api.TemporaryPassword, len(handed.Passwords)), Waiting: handed.Waiting}
	for i, h := range handed.Passwords {
		list.Items[i] = api.TemporaryPassword{UserID: string(h.UserID), Username: h.Username, TemporaryPassword: h.Password.Reveal(), ExpiresAt: h.ExpiresAt}
	}
	return api.HandOutTemporaryPasswords200JSONResponse(list)
}
