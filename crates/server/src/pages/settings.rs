//! `/settings`: who one is, one's tokens and sessions, another password.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use pipekeeper_access::{Grant, Role, Scope};
use pipekeeper_model::{Name, Timestamp};
use serde::Deserialize;

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiPath, ApiQuery},
    people::{
        Caller,
        own::{Opened, Own, SessionView, Which},
        tokens::{MOST_DAYS, TokenView, TokenWish, scope},
    },
};

use super::{Frame, PageError, forms::Fields, page, present::When};

const ADDRESS: &str = "/settings";
const PASSWORD: &str = "/settings/password";
const DRAW: &str = "/settings/tokens";
const END_OTHERS: &str = "/settings/sessions/end-others";

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    who: String,
    roles: Vec<RoleLine>,
    identities: Vec<String>,
    groups: Vec<String>,
    /// What limits the session, if a token does.
    limit: Option<String>,
    password: Option<OwnButton>,
    draw: Option<OwnButton>,
    most_days: u32,
    /// None of who is no user.
    tokens: Option<Vec<TokenLine>>,
    sessions: Vec<SessionLine>,
    end_others: Option<OwnButton>,
    said: Said,
}

/// What became of the form that was sent.
enum Said {
    Nothing,
    /// A new token, which is shown this once.
    Drawn {
        label: String,
        token: String,
    },
    /// The password is another.
    Changed,
    /// It was not done.
    Refused(String),
}

/// A role, and where from.
struct RoleLine {
    text: String,
    source: &'static str,
}

/// A form about oneself; who did not come with a session has none.
struct OwnButton {
    path: String,
    token: String,
}

impl OwnButton {
    fn new(frame: &Frame, path: impl Into<String>) -> Option<Self> {
        let path = path.into();
        let token = frame.own_form_token(&path)?;
        Some(Self { path, token })
    }
}

struct TokenLine {
    label: String,
    id: String,
    scope: String,
    created: When,
    expires: Option<When>,
    used: Option<When>,
    revoke: Option<OwnButton>,
}

struct SessionLine {
    created: When,
    expires: Option<When>,
    from: String,
    opened: &'static str,
    is_this: bool,
    end: Option<OwnButton>,
}

/// What was done before.
#[derive(Deserialize)]
pub(crate) struct SettingsQuery {
    changed: Option<String>,
}

/// `GET /settings`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiQuery(query): ApiQuery<SettingsQuery>,
    caller: Caller,
) -> Result<Response, PageError> {
    let said = if query.changed.as_deref() == Some("password") {
        Said::Changed
    } else {
        Said::Nothing
    };
    shown(&app, caller, said).await
}

/// A token that somebody wants.
#[derive(Deserialize)]
pub(crate) struct TokenForm {
    label: String,
    days: u32,
    #[serde(default)]
    role: String,
    #[serde(default)]
    projects: String,
}

impl TokenForm {
    fn into_wish(self) -> Result<TokenWish, ApiError> {
        let wrong = |error: String| ApiError::new(Problem::Unprocessable, error);
        let role = match self.role.as_str() {
            "" => None,
            role => Some(role.parse::<Role>().map_err(|error| wrong(error.to_string()))?),
        };
        let names = self.projects.split([',', ' ']).filter(|name| !name.is_empty());
        let projects: BTreeSet<Name> = names
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|error: pipekeeper_model::NameError| wrong(error.to_string()))?;
        Ok(TokenWish {
            label: self.label,
            days: self.days,
            scope: scope(role, (!projects.is_empty()).then_some(projects)),
        })
    }
}

/// `POST /settings/tokens`
pub(crate) async fn draw(
    State(app): State<Arc<App>>,
    caller: Caller,
    Fields(form): Fields<TokenForm>,
) -> Result<Response, PageError> {
    let label = form.label.clone();
    let drawn = match form.into_wish() {
        Ok(wish) => app.people.draw_token(&caller, wish, app.now()).await,
        Err(error) => Err(error),
    };
    match drawn {
        Ok((token, _)) => {
            let token = token.reveal().to_owned();
            shown(&app, caller, Said::Drawn { label, token }).await
        }
        Err(error) => refused(&app, caller, error).await,
    }
}

/// `POST /settings/tokens/{id}/revoke`
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Redirect, PageError> {
    app.people.revoke_token(&caller, &id, app.now()).await?;
    Ok(Redirect::to(ADDRESS))
}

/// `POST /settings/sessions/{id}/end`
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Redirect, PageError> {
    app.people
        .end_sessions(&caller, Which::One(&id), app.now())
        .await?;
    Ok(Redirect::to(ADDRESS))
}

/// `POST /settings/sessions/end-others`
pub(crate) async fn end_others(State(app): State<Arc<App>>, caller: Caller) -> Result<Redirect, PageError> {
    app.people.end_sessions(&caller, Which::Others, app.now()).await?;
    Ok(Redirect::to(ADDRESS))
}

/// Another password.
#[derive(Deserialize)]
pub(crate) struct PasswordForm {
    old: String,
    password: String,
    again: String,
}

/// `POST /settings/password`
pub(crate) async fn password(
    State(app): State<Arc<App>>,
    caller: Caller,
    Fields(form): Fields<PasswordForm>,
) -> Result<Response, PageError> {
    let changed = if form.password == form.again {
        let given = (form.old, form.password);
        app.people.change_password(&caller, given, app.now()).await
    } else {
        Err(ApiError::new(
            Problem::Unprocessable,
            "the two new passwords differ",
        ))
    };
    match changed {
        Ok(caller) => {
            let cookie = app
                .people
                .open_session(&caller, app.is_secure(), app.now())
                .await?;
            let next = Redirect::to("/settings?changed=password");
            Ok(([(header::SET_COOKIE, cookie)], next).into_response())
        }
        Err(error) => refused(&app, caller, error).await,
    }
}

/// The page once more, with what was wrong with a form; what is not the form's fault is an error.
async fn refused(app: &App, caller: Caller, error: ApiError) -> Result<Response, PageError> {
    if error.problem() != Problem::Unprocessable {
        return Err(error.into());
    }
    let again = shown(app, caller, Said::Refused(error.detail().to_owned())).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, again).into_response())
}

async fn shown(app: &App, caller: Caller, said: Said) -> Result<Response, PageError> {
    let now = app.now();
    let own = app.people.own(&caller).await?;
    let tokens = match &caller.user {
        Some(_) => Some(app.people.tokens(&caller).await?),
        None => None,
    };
    let sessions = app.people.sessions(&caller, now).await?;
    let frame = Frame::new(app, Some(caller.clone()), "settings", ADDRESS);
    let is_whole = caller.user.is_some() && caller.principal.scope.is_none();
    let has_others = sessions.iter().any(|session| !session.is_this);
    let form = |is_offered: bool, path: &str| OwnButton::new(&frame, path).filter(|_| is_offered);
    page(&SettingsPage {
        who: caller.principal.actor.to_string(),
        roles: roles(&caller, &own),
        identities: own.identities.iter().map(ToString::to_string).collect(),
        groups: own.groups.into_iter().collect(),
        limit: caller.principal.scope.as_ref().map(limit),
        password: form(is_whole && own.has_password, PASSWORD),
        draw: form(is_whole, DRAW),
        most_days: MOST_DAYS,
        tokens: tokens.map(|tokens| {
            let line = |view| TokenLine::of(view, &frame, now);
            tokens.into_iter().map(line).collect()
        }),
        end_others: form(has_others, END_OTHERS),
        sessions: sessions
            .into_iter()
            .map(|view| SessionLine::of(view, &frame, now))
            .collect(),
        said,
        frame,
    })
}

fn roles(caller: &Caller, own: &Own) -> Vec<RoleLine> {
    let line = |grant: &Grant| {
        let mut text = format!("{} {}", grant.role, places(grant.projects.as_ref()));
        if let Some(environments) = &grant.environments {
            text.push_str(&format!(", at the gates of {}", listed(environments)));
        }
        let source = match &caller.user {
            None => "of the server's own token",
            Some(_) if own.given.contains(grant) => "given to you",
            Some(_) => "by a RoleBinding",
        };
        RoleLine { text, source }
    };
    caller.principal.grants.iter().map(line).collect()
}

fn limit(scope: &Scope) -> String {
    format!("{} {}", scope.role, places(scope.projects.as_ref()))
}

fn places(projects: Option<&BTreeSet<Name>>) -> String {
    match projects {
        None => "everywhere".to_owned(),
        Some(projects) => format!("in {}", listed(projects)),
    }
}

fn listed(names: &BTreeSet<Name>) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}

impl TokenLine {
    fn of(view: TokenView, frame: &Frame, now: Timestamp) -> Self {
        Self {
            scope: match &view.scope {
                Some(scope) => limit(scope),
                None => "all that you may".to_owned(),
            },
            created: When::new(view.created, now),
            expires: view.expires.map(|at| When::new(at, now)),
            used: view.used.map(|at| When::new(at, now)),
            revoke: OwnButton::new(frame, format!("{DRAW}/{}/revoke", view.id)),
            label: view.label,
            id: view.id,
        }
    }
}

impl SessionLine {
    fn of(view: SessionView, frame: &Frame, now: Timestamp) -> Self {
        Self {
            created: When::new(view.created, now),
            expires: view.expires.map(|at| When::new(at, now)),
            from: view.from.unwrap_or_default(),
            opened: match view.opened {
                Opened::ByLogin => "a login",
                Opened::ByToken => "a token",
            },
            is_this: view.is_this,
            end: OwnButton::new(frame, format!("/settings/sessions/{}/end", view.id)),
        }
    }
}
