//! Lists: tags, repositories, and what refers to a manifest.

use greentic_dist_types::Digest;
use serde_json::Value;

use super::content::{Manifest, image, index};
use super::{Named, Problem, Target, expect, same};
use crate::fixture::INDEX_TYPE;
use crate::raw_client::Answer;

pub(super) const CHECKS: &[Named] = &[
    ("tags_are_listed_in_lexical_order", tags),
    ("tags_of_an_unknown_repository_are_404", no_repository),
    ("a_page_of_tags_has_as_many_as_asked_for", tag_pages),
    ("a_page_of_tags_begins_after_the_last_one", tags_after),
    ("a_page_of_no_tags_is_empty", no_tags),
    ("repositories_are_listed_in_pages", catalog),
    ("an_accepted_subject_is_told", subject_told),
    ("a_subject_need_not_be_there", missing_subject),
    ("nobody_refers_to_it_is_an_empty_index", no_referrers),
    ("referrers_are_listed_with_type_and_annotations", referrers),
    ("referrers_are_filtered_by_type", filtered),
    ("an_index_may_refer_to_a_manifest", index_refers),
    ("a_deleted_referrer_is_not_listed", deleted_referrer),
];

fn names(answer: &Answer, field: &str) -> Vec<String> {
    let json = answer.json();
    let list = json[field].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The target of the next page.
fn next(answer: &Answer) -> Option<String> {
    let (target, rest) = answer.header("link").strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| {
        let path = target.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        path.unwrap_or(target).to_owned()
    })
}

fn tagged(target: &Target, tags: &[&str]) -> Result<(), Problem> {
    tags.iter().try_for_each(|tag| target.push_image(tag, b"layer").map(drop))
}

fn tags(target: &Target) -> Result<(), Problem> {
    tagged(target, &["b", "C", "a", "1"])?;
    let answer = target.get(&target.path("tags/list"))?;
    expect(&answer, &[200], "GET")?;
    same(&answer.json()["name"].as_str(), &Some(&*target.repository), "the name")?;
    same(&names(&answer, "tags"), &["1", "C", "a", "b"].map(str::to_owned).to_vec(), "the tags")
}

fn no_repository(target: &Target) -> Result<(), Problem> {
    expect(&target.get(&target.path("tags/list"))?, &[404], "GET")
}

fn tag_pages(target: &Target) -> Result<(), Problem> {
    tagged(target, &["a", "b", "c"])?;
    let first = target.get(&target.path("tags/list?n=2"))?;
    same(&names(&first, "tags").len(), &2, "the tags of the first page")?;
    let rest = target.get(&next(&first).ok_or("the first page has no Link")?)?;
    same(&names(&rest, "tags").len(), &1, "the tags of the last page")?;
    same(&next(&rest), &None, "the Link of the last page")
}

fn tags_after(target: &Target) -> Result<(), Problem> {
    tagged(target, &["a", "b", "c"])?;
    let answer = target.get(&target.path("tags/list?n=10&last=a"))?;
    same(&names(&answer, "tags"), &["b", "c"].map(str::to_owned).to_vec(), "the tags")
}

fn no_tags(target: &Target) -> Result<(), Problem> {
    tagged(target, &["a"])?;
    let answer = target.get(&target.path("tags/list?n=0"))?;
    expect(&answer, &[200], "GET")?;
    same(&names(&answer, "tags").len(), &0, "the tags")
}

fn catalog(target: &Target) -> Result<(), Problem> {
    let (one, two) = (target.other("one"), target.other("two"));
    one.push_image("1", b"layer")?;
    two.push_image("1", b"layer")?;
    let mut found = Vec::new();
    let mut page = Some("/v2/_catalog?n=1".to_owned());
    // A registry that is tested several times has many repositories.
    for _ in 0..1_000 {
        let Some(target) = page else { break };
        let answer = one.get(&target)?;
        expect(&answer, &[200], "GET")?;
        let names = names(&answer, "repositories");
        same(&(names.len() <= 1), &true, "at most one on a page")?;
        found.extend(names);
        page = next(&answer);
    }
    for repository in [&one.repository, &two.repository] {
        same(&found.iter().filter(|name| *name == repository).count(), &1, repository)?;
    }
    Ok(())
}

/// Brings a subject and what refers to it in.
fn referring(target: &Target, kinds: &[&str]) -> Result<(Manifest, Vec<Manifest>), Problem> {
    let subject = target.push_image("subject", b"subject")?;
    let mut all = Vec::new();
    for kind in kinds {
        target.push_blobs(kind.as_bytes())?;
        let mut value = image(kind.as_bytes());
        value["subject"] = subject.descriptor();
        value["artifactType"] = (*kind).into();
        value["annotations"] = serde_json::json!({ "org.example.kind": kind });
        let manifest = Manifest::of(&value);
        expect(&target.put_manifest(&manifest.digest().to_string(), &manifest)?, &[201], "PUT of a referrer")?;
        all.push(manifest);
    }
    Ok((subject, all))
}

fn subject_told(target: &Target) -> Result<(), Problem> {
    let subject = target.push_image("subject", b"subject")?;
    let mut value = image(b"subject");
    value["subject"] = subject.descriptor();
    let answer = target.put_manifest("referrer", &Manifest::of(&value))?;
    expect(&answer, &[201], "PUT")?;
    same(&answer.header("oci-subject"), &&*subject.digest().to_string(), "OCI-Subject")
}

fn missing_subject(target: &Target) -> Result<(), Problem> {
    target.push_blobs(b"layer")?;
    let mut value = image(b"layer");
    let subject = Manifest::of(&image(b"never pushed"));
    value["subject"] = subject.descriptor();
    expect(&target.put_manifest("referrer", &Manifest::of(&value))?, &[201], "PUT")?;
    let list = listed(target, &subject.digest(), "")?;
    same(&list.len(), &1, "the referrers")
}

fn listed(target: &Target, subject: &Digest, query: &str) -> Result<Vec<Value>, Problem> {
    let answer = target.get(&target.path(&format!("referrers/{subject}{query}")))?;
    expect(&answer, &[200], "GET")?;
    same(&answer.header("content-type"), &INDEX_TYPE, "Content-Type")?;
    same(&answer.json()["schemaVersion"].as_u64(), &Some(2), "schemaVersion")?;
    if query.contains("artifactType=") {
        same(&answer.header("oci-filters-applied"), &"artifactType", "OCI-Filters-Applied")?;
    }
    answer.json()["manifests"].as_array().cloned().ok_or_else(|| "no list of manifests".to_owned())
}

fn no_referrers(target: &Target) -> Result<(), Problem> {
    let (subject, _) = referring(target, &[])?;
    same(&listed(target, &subject.digest(), "")?, &Vec::new(), "the referrers")
}

fn referrers(target: &Target) -> Result<(), Problem> {
    let (subject, all) = referring(target, &["a/one", "a/two"])?;
    let list = listed(target, &subject.digest(), "")?;
    same(&list.len(), &all.len(), "how many refer to it")?;
    for (manifest, kind) in all.iter().zip(["a/one", "a/two"]) {
        let digest = manifest.digest().to_string();
        let entry = list.iter().find(|entry| entry["digest"] == *digest).ok_or("a referrer is missing")?;
        same(&entry["size"].as_u64(), &u64::try_from(manifest.bytes.len()).ok(), "the size")?;
        same(&entry["artifactType"].as_str(), &Some(kind), "artifactType")?;
        same(&entry["annotations"]["org.example.kind"].as_str(), &Some(kind), "the annotation")?;
    }
    Ok(())
}

fn filtered(target: &Target) -> Result<(), Problem> {
    let (subject, all) = referring(target, &["a/one", "a/two"])?;
    let list = listed(target, &subject.digest(), "?artifactType=a/two")?;
    let digests: Vec<&str> = list.iter().filter_map(|entry| entry["digest"].as_str()).collect();
    same(&digests, &vec![&*all[1].digest().to_string()], "the referrers")
}

fn index_refers(target: &Target) -> Result<(), Problem> {
    let subject = target.push_image("subject", b"subject")?;
    let mut value = index(&[]);
    value["subject"] = subject.descriptor();
    value["artifactType"] = "a/list".into();
    expect(&target.put_manifest("referrer", &Manifest::of(&value))?, &[201], "PUT")?;
    let list = listed(target, &subject.digest(), "")?;
    same(&list.first().and_then(|entry| entry["artifactType"].as_str()), &Some("a/list"), "artifactType")
}

fn deleted_referrer(target: &Target) -> Result<(), Problem> {
    let (subject, all) = referring(target, &["a/one"])?;
    let path = target.path(&format!("manifests/{}", all[0].digest()));
    expect(&target.ask("DELETE", &path, &[], b"")?, &[202], "DELETE")?;
    same(&listed(target, &subject.digest(), "")?, &Vec::new(), "the referrers")
}
