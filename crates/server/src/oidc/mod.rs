//! Logins through an issuer of OpenID Connect: authorization code with PKCE, and what is believed of its answer.
//!
//! Nothing is kept between the way there and the way back: state, nonce and verifier are made of a secret in the browser's own
//! cookie ([`Flow`]). Who the issuer's people are here is the business of `people`. Entry type: [`Oidc`].

mod flow;
mod http;

use std::{collections::BTreeSet, fmt, net::IpAddr, num::NonZeroU32, time::Duration};

use axum::http::HeaderMap;
use chrono::DateTime;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use openidconnect::{
    AdditionalClaims, Audience, AuthType, AuthenticationFlow, AuthorizationCode, Client, ClientId,
    ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
        CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
        CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
        CoreTokenType,
    },
};
use pipekeeper_model::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};

pub(crate) use self::flow::Flow;
use self::http::Http;
use crate::{
    error::{ApiError, Problem},
    people::foreign::{Foreigner, Newcomers, Subject},
};

/// How long what the issuer says of itself is believed.
const KNOWN_FOR: Millis = Millis::hours(1);
/// How often keys are asked for that are not known, at the most.
const KEYS_ASKED: Duration = Duration::from_mins(1);
/// How long an issuer that could not be asked is not asked again.
const AWAY_FOR: Duration = Duration::from_secs(10);
/// Logins that ask the issuer at once.
const AT_ONCE: usize = 8;
/// Codes that one address may bring: so many at once, then so many a minute.
const CODES: NonZeroU32 = NonZeroU32::new(30).expect("it is not zero");
/// Addresses that are remembered at the most before those that were quiet are forgotten.
const ADDRESSES: usize = 10_000;
/// What a clock may be wrong by.
const LEEWAY: Millis = Millis::seconds(60);
/// Groups of one person, and letters of each.
const MOST_GROUPS: usize = 1_000;
const LONGEST_GROUP: usize = 256;

/// How an issuer is used.
#[derive(Clone)]
pub struct OidcOptions {
    /// Its address, to the letter.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// What proves that it is this server.
    pub client_secret: String,
    /// What the button says.
    pub name: String,
    /// The claim with the groups of a person.
    pub groups_claim: String,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<String>,
    /// What becomes of people who were not here before.
    pub newcomers: Newcomers,
    /// Which addresses are asked.
    pub transport: Transport,
    /// The certificates to trust beside the usual ones, as PEM.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for OidcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcOptions")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Which addresses an issuer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `https://` alone.
    Tls,
    /// `http://` too: whoever listens there can be anybody here.
    Plain,
}

/// The configuration of an issuer cannot be used.
#[derive(Debug, Error)]
pub enum OidcError {
    /// The address is none, or not one that is asked.
    #[error("use the issuer `{0}`: it is no `https://` address; hint: `insecure = true` allows `http://`")]
    Issuer(String),
    /// The algorithm is unknown, or proves nothing.
    #[error("use the algorithm `{0}`: hint: write names such as RS256, PS256, ES256 or EdDSA")]
    Algorithm(String),
    /// No client can be made.
    #[error("make an HTTP client: {0}")]
    Client(#[source] reqwest::Error),
}

/// An issuer.
pub struct Oidc {
    options: OidcOptions,
    issuer: IssuerUrl,
    algorithms: Vec<CoreJwsSigningAlgorithm>,
    http: Http,
    known: Mutex<Known>,
    places: Semaphore,
    codes: DefaultKeyedRateLimiter<Option<IpAddr>>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(CoreProviderMetadata, Timestamp)>,
    /// Why it could not be asked, and when that was.
    failed: Option<(String, Instant)>,
    keys_asked: Option<Instant>,
}

/// Whatever a token claims beyond the standard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Claims(Map<String, Value>);

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Issued = StandardTokenResponse<Fields, CoreTokenType>;
type Asking = Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Issued,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Why somebody is not let in, in words for the log; they themselves are told less.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    /// The answer is not what was asked for.
    #[error("{0}")]
    Answer(String),
    /// The issuer cannot be asked.
    #[error("the issuer cannot be asked: {0}")]
    Away(String),
}

impl Oidc {
    /// An issuer, which is not asked yet.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn new(options: OidcOptions) -> Result<Self, OidcError> {
        let wrong = || OidcError::Issuer(options.issuer.clone());
        let issuer = IssuerUrl::new(options.issuer.clone()).map_err(|_| wrong())?;
        let http = Http::new(options.transport, options.ca.as_deref()).map_err(OidcError::Client)?;
        if !http.allows(issuer.url().as_str()) {
            return Err(wrong());
        }
        let algorithms = options.algorithms.iter().map(|name| algorithm(name));
        Ok(Self {
            issuer,
            algorithms: algorithms.collect::<Result<_, _>>()?,
            http,
            known: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            codes: RateLimiter::keyed(Quota::per_minute(CODES)),
            options,
        })
    }

    /// What the button says.
    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    pub(crate) fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    pub(crate) fn newcomers(&self) -> Newcomers {
        self.options.newcomers
    }

    /// Where a browser goes to log in.
    pub(crate) async fn leave(&self, flow: &Flow, back: &str, now: Timestamp) -> Result<String, Refused> {
        let client = self.client(self.metadata(now).await?, back)?;
        let (state, nonce) = (flow.state(), flow.nonce());
        let way = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let verifier = PkceCodeVerifier::new(flow.verifier());
        let mut request = client
            .authorize_url(way, || CsrfToken::new(state), || Nonce::new(nonce))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for scope in &self.options.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, _, _) = request.url();
        if !self.http.allows(url.as_str()) {
            return Err(Refused::Answer(
                "the issuer sends browsers to a plain address".to_owned(),
            ));
        }
        Ok(url.into())
    }

    /// Lets an address bring a code, unless it brought too many: the issuer is asked about each.
    pub(crate) fn admit(&self, from: Option<IpAddr>) -> Result<(), ApiError> {
        if self.codes.len() > ADDRESSES {
            self.codes.retain_recent();
        }
        self.codes.check_key(&from).map_err(|_| {
            ApiError::new(Problem::Busy, "too many logins come from this address").with_hint("wait a minute")
        })
    }

    /// Who came back with this code.
    pub(crate) async fn arrive(
        &self,
        flow: &Flow,
        (code, back): (String, &str),
        now: Timestamp,
    ) -> Result<Foreigner, Refused> {
        let _place = self.place()?;
        let metadata = self.metadata(now).await?;
        let client = self.client(metadata, back)?;
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| Refused::Answer(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier()))
            .request_async(&self.http)
            .await
            .map_err(|error| Refused::Answer(format!("the code was not taken: {error}")))?;
        let token = answer
            .id_token()
            .ok_or_else(|| Refused::Answer("the answer has no ID token".to_owned()))?;
        match self.believe(&client, token, flow, now) {
            Err(Doubt::Key(_)) => {
                // The issuer may have changed its keys since it was asked for them.
                let client = self.client(self.metadata_anew(now).await?, back)?;
                self.believe(&client, token, flow, now)
            }
            believed => believed,
        }
        .map_err(|doubt| Refused::Answer(doubt.to_string()))
    }

    fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refused> {
        let place = self.places.try_acquire();
        place.map_err(|_| Refused::Away("too many people log in at once".to_owned()))
    }

    fn client(&self, metadata: CoreProviderMetadata, back: &str) -> Result<Asking, Refused> {
        let redirect = RedirectUrl::new(back.to_owned());
        let redirect = redirect.map_err(|error| Refused::Answer(error.to_string()))?;
        let methods = metadata.token_endpoint_auth_methods_supported();
        let takes_basic =
            methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let client = Client::from_provider_metadata(
            metadata,
            ClientId::new(self.options.client_id.clone()),
            Some(ClientSecret::new(self.options.client_secret.clone())),
        );
        let how = if takes_basic {
            AuthType::BasicAuth
        } else {
            AuthType::RequestBody
        };
        Ok(client.set_auth_type(how).set_redirect_uri(redirect))
    }

    async fn metadata(&self, now: Timestamp) -> Result<CoreProviderMetadata, Refused> {
        let mut known = self.known.lock().await;
        if let Some((metadata, at)) = &known.metadata
            && now.since(*at) < KNOWN_FOR
        {
            return Ok(metadata.clone());
        }
        self.discover(&mut known, now).await
    }

    /// The same, asked for once more, but not more often than now and then.
    async fn metadata_anew(&self, now: Timestamp) -> Result<CoreProviderMetadata, Refused> {
        let mut known = self.known.lock().await;
        match (&known.metadata, known.keys_asked) {
            (Some((metadata, _)), Some(asked)) if asked.elapsed() < KEYS_ASKED => Ok(metadata.clone()),
            (Some(_) | None, _) => {
                known.keys_asked = Some(Instant::now());
                self.discover(&mut known, now).await
            }
        }
    }

    async fn discover(&self, known: &mut Known, now: Timestamp) -> Result<CoreProviderMetadata, Refused> {
        if let Some((why, at)) = &known.failed
            && at.elapsed() < AWAY_FOR
        {
            return Err(Refused::Away(why.clone()));
        }
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        let found = found.map_err(|error| {
            let why = chain(&error);
            known.failed = Some((why.clone(), Instant::now()));
            Refused::Away(why)
        })?;
        known.metadata = Some((found.clone(), now));
        Ok(found)
    }

    fn believe(
        &self,
        client: &Asking,
        token: &openidconnect::IdToken<
            Claims,
            CoreGenderClaim,
            CoreJweContentEncryptionAlgorithm,
            CoreJwsSigningAlgorithm,
        >,
        flow: &Flow,
        now: Timestamp,
    ) -> Result<Foreigner, Doubt> {
        let time = move || DateTime::from_timestamp_millis(now.0).unwrap_or_default();
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(self.algorithms.iter().cloned())
            .set_time_fn(time)
            .set_issue_time_verifier_fn(move |at| {
                if at.timestamp_millis() > (now + LEEWAY).0 {
                    return Err("it is of the future".to_owned());
                }
                Ok(())
            });
        let claims = token
            .claims(&verifier, &Nonce::new(flow.nonce()))
            .map_err(Doubt::of)?;
        let own = ClientId::new(self.options.client_id.clone());
        let party = claims.authorized_party();
        // The library leaves this to us.
        if party.is_some_and(|party| *party != own) || party.is_none() && claims.audiences().len() > 1 {
            return Err(Doubt::Other("the token was issued to another party".to_owned()));
        }
        if claims
            .audiences()
            .iter()
            .any(|audience| *audience != Audience::new(own.to_string()))
        {
            return Err(Doubt::Other("the token is for others, too".to_owned()));
        }
        Ok(Foreigner {
            subject: Subject {
                issuer: self.issuer.to_string(),
                subject: claims.subject().to_string(),
            },
            name: claims.preferred_username().map(|name| name.to_string()),
            groups: groups(claims.additional_claims().0.get(&self.options.groups_claim)),
        })
    }
}

/// What is wrong with a token.
#[derive(Debug, Error)]
enum Doubt {
    /// It may be signed with a key that is not known yet.
    #[error("the ID token is not believed: {0}")]
    Key(openidconnect::ClaimsVerificationError),
    /// Anything else.
    #[error("the ID token is not believed: {0}")]
    Other(String),
}

impl Doubt {
    fn of(error: openidconnect::ClaimsVerificationError) -> Self {
        use openidconnect::{
            ClaimsVerificationError::SignatureVerification, SignatureVerificationError as Why,
        };
        let is_of_key = matches!(
            error,
            SignatureVerification(Why::NoMatchingKey | Why::CryptoError(_) | Why::AmbiguousKeyId(_))
        );
        if is_of_key {
            Self::Key(error)
        } else {
            Self::Other(chain(&error))
        }
    }
}

/// Names of groups: a list, or one alone. What is none of either is left out.
fn groups(claim: Option<&Value>) -> BTreeSet<String> {
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let all: Vec<String> = match claim {
        Some(Value::Array(all)) => all.iter().filter_map(name).collect(),
        Some(one) => name(one).into_iter().collect(),
        None => Vec::new(),
    };
    let is_name = |group: &String| !group.is_empty() && group.len() <= LONGEST_GROUP;
    all.into_iter().filter(is_name).take(MOST_GROUPS).collect()
}

/// A signature that only the issuer can make.
fn algorithm(name: &str) -> Result<CoreJwsSigningAlgorithm, OidcError> {
    let wrong = || OidcError::Algorithm(name.to_owned());
    let asymmetric = ["RS", "PS", "ES", "Ed"]
        .iter()
        .any(|start| name.starts_with(start));
    if !asymmetric {
        return Err(wrong());
    }
    serde_json::from_value(Value::String(name.to_owned())).map_err(|_| wrong())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

impl From<&Refused> for ApiError {
    fn from(refused: &Refused) -> Self {
        match refused {
            Refused::Answer(_) => Self::new(Problem::Unauthorized, "the login did not succeed")
                .with_hint("sign in once more; the server's log says what was wrong"),
            Refused::Away(_) => Self::new(Problem::Unavailable, "the issuer of logins cannot be asked now")
                .with_hint("try again later; the server's log says more"),
        }
    }
}

/// The flow that a browser is in.
pub(crate) fn flow_of(headers: &HeaderMap, is_secure: bool) -> Option<Flow> {
    Flow::of(headers, is_secure)
}
