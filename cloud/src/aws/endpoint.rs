//! Where AWS's services are (AWS General Reference, "AWS service endpoints"; partitions as in botocore's `partitions.json`).

use http::Uri;

use crate::CloudError;

/// The STS that is asked, and the region that its signatures are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsEndpoint {
    /// Its URL.
    pub url: Uri,
    /// Its region.
    pub region: String,
}

/// The region whose signatures the global endpoint takes.
const GLOBAL_REGION: &str = "us-east-1";

impl StsEndpoint {
    /// `sts.amazonaws.com`, in the partition `aws` only.
    #[must_use]
    pub fn global() -> Self {
        Self { url: Uri::from_static("https://sts.amazonaws.com/"), region: GLOBAL_REGION.into() }
    }

    /// That of a region; with `fips`, the one with FIPS 140 validated cryptography.
    ///
    /// # Errors
    /// When the region's name cannot be one.
    pub fn regional(region: &str, fips: bool) -> Result<Self, CloudError> {
        must_be_region(region)?;
        let host = match (fips, region.starts_with("us-gov-")) {
            // Those of GovCloud are such endpoints under their plain name.
            (true, false) => format!("sts-fips.{region}.{}", dns_suffix(region)),
            _ => format!("sts.{region}.{}", dns_suffix(region)),
        };
        Self::at(&format!("https://{host}/"), region)
    }

    /// At this URL.
    ///
    /// # Errors
    /// When it is none.
    pub fn at(url: &str, region: &str) -> Result<Self, CloudError> {
        must_be_region(region)?;
        Ok(Self { url: url_of(url, "https://sts.eu-west-1.amazonaws.com")?, region: region.to_owned() })
    }
}

/// The URL of an endpoint, which is like the `example`.
pub(super) fn url_of(url: &str, example: &str) -> Result<Uri, CloudError> {
    let url = url.parse::<Uri>().ok().filter(|url| url.scheme().is_some() && url.authority().is_some());
    url.ok_or_else(|| CloudError::Usage(format!("an endpoint is a URL, such as {example}")))
}

/// A region goes into a host name: a slash or an `@` in it would name another host.
pub(super) fn must_be_region(region: &str) -> Result<(), CloudError> {
    let is_one =
        !region.is_empty() && region.len() <= 40 && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if is_one { Ok(()) } else { Err(CloudError::Usage(format!("{region:?} is no region, such as us-east-1"))) }
}

/// The domain of a region's partition.
pub(super) fn dns_suffix(region: &str) -> &'static str {
    let partitions = [
        ("cn-", "amazonaws.com.cn"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eusc-", "amazonaws.eu"),
    ];
    partitions.into_iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("amazonaws.com", |(_, suffix)| suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_the_endpoints_of_their_partition() {
        let expected = [
            ("us-east-2", false, "https://sts.us-east-2.amazonaws.com/"),
            ("us-west-2", true, "https://sts-fips.us-west-2.amazonaws.com/"),
            ("us-gov-west-1", false, "https://sts.us-gov-west-1.amazonaws.com/"),
            ("us-gov-west-1", true, "https://sts.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", false, "https://sts.cn-north-1.amazonaws.com.cn/"),
        ];
        for (region, fips, url) in expected {
            assert_eq!(StsEndpoint::regional(region, fips).expect("an endpoint").url, url);
        }
    }

    #[test]
    fn a_region_names_no_other_host() {
        for region in ["", "us-east-1.evil.test/", "evil.test#", "a@evil.test", "US-EAST-1", "us east"] {
            assert!(StsEndpoint::regional(region, false).is_err(), "{region}");
        }
    }
}
