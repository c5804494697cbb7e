"""Churn models of scikit-learn on the very features that sluice learns from: the peer of its own models.

    python churn_scikit.py features.csv [--seed 7]

The CSV is what the SQL of gold.ml_churn_scores gives: snapshots train, calibrate and test, each later than the one before;
`churned`; every other column but the ids is a feature. Each model is fitted on `train`, calibrated on `calibrate` (Platt's
scaling of its log-odds) and measured on `test`. Prints one JSON object: for each model AUC, Brier score, log loss and lift at
10 %, over all customers of `test` and over those who were active (an order in the 90 days before).
"""
import argparse
import json
import math

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NOT_FEATURES = {"source", "customer_id", "snapshot", "cutoff", "churned"}
CHURNED_AFTER_DAYS = 90


def models(rows, seed):
    """The candidates. A leaf of the forest holds at least a hundredth of the rows: churn is noisy, deep trees learn the noise."""
    return {
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000)),
        "random_forest": RandomForestClassifier(
            n_estimators=200, min_samples_leaf=max(20, rows // 100), max_features=2, random_state=seed
        ),
        "hist_gradient_boosting": HistGradientBoostingClassifier(
            learning_rate=0.05, max_iter=100, max_leaf_nodes=8, min_samples_leaf=max(20, rows // 200), random_state=seed
        ),
    }


def log_odds(probability):
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p)).reshape(-1, 1)


def lift(churned, score, share=0.1):
    """Churn rate of the ceil(share * n) customers of highest score, ties by row order, over that of all."""
    count = math.ceil(share * len(score))
    top = np.argsort(-score, kind="stable")[:count]
    return float(churned[top].mean() / churned.mean())


def measures(churned, score):
    return {
        "rows": len(churned),
        "churn_rate": round(float(churned.mean()), 4),
        "auc": round(float(roc_auc_score(churned, score)), 4),
        "brier": round(float(brier_score_loss(churned, score)), 4),
        "log_loss": round(float(log_loss(churned, score)), 4),
        "lift_10": round(lift(churned, score), 4),
    }


def report(test, score):
    churned = test["churned"].to_numpy()
    active = (test["recency_days"] <= CHURNED_AFTER_DAYS).to_numpy()
    return {"all": measures(churned, score), "active": measures(churned[active], score[active])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", help="CSV of features")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()

    table = pd.read_csv(arguments.features, dtype={"customer_id": str})
    features = [column for column in table.columns if column not in NOT_FEATURES]
    parts = {}
    for name in ("train", "calibrate", "test"):
        parts[name] = table[table["snapshot"] == name].reset_index(drop=True)
        parts[name]["churned"] = (parts[name]["churned"].astype(str).str.lower() == "true").astype(int)
    train, calibrate, test = parts["train"], parts["calibrate"], parts["test"]

    results = {}
    for name, model in models(len(train), arguments.seed).items():
        model.fit(np.log1p(train[features]), train["churned"])

        def raw(part):
            return model.predict_proba(np.log1p(part[features]))[:, 1]

        platt = LogisticRegression(C=np.inf).fit(log_odds(raw(calibrate)), calibrate["churned"])
        results[name] = report(test, platt.predict_proba(log_odds(raw(test)))[:, 1])
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
